"""What several test modules share: one run of the whole workflow, and how they are spread."""

from __future__ import annotations

import shutil
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


class Scheduling(LoadFileScheduling):
    """With `--dist loadfile` a file's tests stay in one process, and so do these files."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return "sharing" if Path(file).name in SHARING else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Scheduling:
    """The scheduling of `--dist loadfile`."""
    return Scheduling(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What shares the run comes first, for it takes the longest."""
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
