"""What several test modules share: one run of the whole workflow, and how they are spread."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from filelock import FileLock

from workflow_project import (
    LEFT_TO_THE_WORKFLOW,
    Project,
    commit,
    copy_project,
    holders,
    preset_rows,
)

FIRST = "test_workflow_smoke.py"
"""The file that makes the run which is shared; others that need the run come last, see LAST."""

LAST = (
    "test_workflow_versioning.py",
    "test_workflow_search.py",
    "test_slurm.py",
    "test_environments.py",
)
"""The longest first."""

SHARED = "VAELAB_TESTS_SHARED"
"""Names the folder that all processes of a session share."""

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
        SHARED: str(folder),
    }


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by their folder; order the files."""
    for item in items:
        folder = item.path.relative_to(Path(__file__).parent).parts[0]
        if folder in MARKED:
            item.add_marker(folder)
    sharing = {item.path.name for item in items if "finished_smoke" in item.fixturenames}
    assert sharing <= {FIRST, *LAST}
    order = {FIRST: -1, **{name: place for place, name in enumerate(LAST, 1)}}
    items.sort(key=lambda item: order.get(item.path.name, 0))


@pytest.fixture(scope="session")
def finished_smoke() -> Project:
    """A committed project after `all` in the smoke preset, on two cores; copy it to change it.

    Most trainings are made by two commands beforehand: a job of two seconds spends them on
    importing PyTorch. The first process that asks makes the project, the others wait.
    """
    folder = Path(os.environ[SHARED])
    project, done = folder / "finished_smoke", folder / "finished"
    with FileLock(folder / "finished.lock"):
        if not done.exists():
            assert not project.exists(), "the shared run failed, in another process"
            _run_everything(copy_project(project))
            done.touch()
    return Project(project)


def _run_everything(project: Project) -> None:
    smoke = ("--config", "preset=smoke")
    commit(project.folder, "Start", start=True)
    project.snakemake("data", *smoke)
    runs = dict.fromkeys(holders(preset_rows("smoke")).values())
    trained = [f"{name}-s0" for name in runs if name not in LEFT_TO_THE_WORKFLOW]

    def train(ids: Sequence[str]) -> None:
        done = project.command("vaelab", "train", "--evaluate", *ids, *smoke)
        assert done.returncode == 0, done.stdout

    with ThreadPoolExecutor(2) as commands:
        list(commands.map(train, (trained[::2], trained[1::2])))
    project.snakemake("all", *smoke)


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
    from toys import kept_process_settings

    with kept_process_settings():
        yield
