"""What several test modules share: one run of the whole workflow, and how they are spread."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from xdist.scheduler import LoadFileScheduling

from workflow_project import Project, commit, copy_project

SHARING = {
    "test_environments.py",
    "test_slurm.py",
    "test_workflow_smoke.py",
    "test_workflow_versioning.py",
}
"""Files whose tests use the run that is shared."""

MARKED = ("workflow", "browser", "cluster")
"""Folders whose name is the marker of their tests."""


def pytest_configure(config: pytest.Config) -> None:
    """Keep what the user has set for git, DVC, Snakemake and Matplotlib out of the tests.

    The variables are set before the modules of the tests are imported, and once for all processes
    of a session: those of xdist inherit them.
    """
    if hasattr(config, "workerinput"):
        return
    folder = Path(tempfile.mkdtemp(prefix="vaelab-tests-"))
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
    # Nothing but leave to read a checkout that belongs to somebody else, as in a container.
    (folder / "gitconfig").write_text("[safe]\n\tdirectory = *\n")
    os.environ |= {
        "GIT_CONFIG_GLOBAL": str(folder / "gitconfig"),
        "GIT_CONFIG_NOSYSTEM": "1",
        "XDG_CONFIG_HOME": str(folder / "config"),
        "XDG_CACHE_HOME": str(folder / "cache"),
        "DVC_GLOBAL_CONFIG_DIR": str(folder / "config/dvc"),
        "DVC_SYSTEM_CONFIG_DIR": str(folder / "system/dvc"),
        "DVC_SITE_CACHE_DIR": str(folder / "cache/dvc"),
    }


class Scheduling(LoadFileScheduling):
    """With `--dist loadfile` a file's tests stay in one process, and so do these files."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return "sharing" if Path(file).name in SHARING else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Scheduling:
    """The scheduling of `--dist loadfile`."""
    return Scheduling(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by their folder; what shares the run comes first, for it takes the longest."""
    for item in items:
        folder = item.path.relative_to(Path(__file__).parent).parts[0]
        if folder in MARKED:
            item.add_marker(folder)
    sharing = {item.path.name for item in items if "finished_smoke" in item.fixturenames}
    assert sharing <= SHARING
    items.sort(key=lambda item: item.path.name not in SHARING)


@pytest.fixture(scope="session")
def finished_smoke(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A committed project after `all` in the smoke preset, on two cores; copy it to use it."""
    project = copy_project(tmp_path_factory.mktemp("finished_smoke") / "project")
    commit(project.folder, "Start", start=True)
    project.snakemake("all", "--config", "preset=smoke", cores=2)
    yield project
    shutil.rmtree(project.folder)


@pytest.fixture(autouse=True)
def reports(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """What the package reports is in `caplog`; a command's own handler goes with its test."""
    caplog.set_level(logging.INFO, logger="vaelab")
    handlers = list(logging.getLogger("vaelab").handlers)
    yield
    logging.getLogger("vaelab").handlers = handlers


@pytest.fixture
def process_settings() -> Iterator[None]:
    """Commands configure the whole process; give the other tests theirs back."""
    import torch

    before = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    yield
    torch.set_num_threads(before[0])
    torch.set_deterministic_debug_mode(before[1])
    torch.set_flush_denormal(False)
