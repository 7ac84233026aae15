"""What several test modules share: one run of the whole workflow, and how they are spread."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from workflow_project import Project, commit, copy_project


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Spread the files over the processes of `-n 2`; those that share the run stay together.

    They come first, for together they take the longest.
    """
    sharing = {item.path for item in items if "finished_smoke" in item.fixturenames}
    for item in items:
        group = "finished_smoke" if item.path in sharing else item.path.name
        item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=lambda item: item.path not in sharing)


@pytest.fixture(scope="session")
def finished_smoke(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A committed project after `all` in the smoke preset, on two cores; copy it to use it."""
    project = copy_project(tmp_path_factory.mktemp("finished_smoke") / "project")
    commit(project.folder, "Start", start=True)
    project.snakemake("all", "--config", "preset=smoke", cores=2)
    yield project
    shutil.rmtree(project.folder)
