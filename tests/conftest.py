"""What several test modules share: one run of the whole workflow, and how they are spread."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from workflow_project import Project, commit, copy_project

SHARED_RUN = "finished_smoke"
"""The group of the files whose tests use that run; they state it in `pytestmark`."""


def pytest_itemcollected(item: pytest.Item) -> None:
    """With `--dist loadgroup` a file's tests stay in one process, and so do a group's."""
    if item.get_closest_marker("xdist_group") is None:
        item.add_marker(pytest.mark.xdist_group(item.path.name))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What shares the run comes first, for it takes the longest."""

    def shares(item: pytest.Item) -> bool:
        marker = item.get_closest_marker("xdist_group")
        return marker is not None and marker.args == (SHARED_RUN,)

    assert all(shares(item) for item in items if "finished_smoke" in item.fixturenames)
    items.sort(key=lambda item: not shares(item))


@pytest.fixture(scope="session")
def finished_smoke(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A committed project after `all` in the smoke preset, on two cores; copy it to use it."""
    project = copy_project(tmp_path_factory.mktemp("finished_smoke") / "project")
    commit(project.folder, "Start", start=True)
    project.snakemake("all", "--config", "preset=smoke", cores=2)
    yield project
    shutil.rmtree(project.folder)
