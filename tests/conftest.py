"""What several test modules share: one run of the whole workflow."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from workflow_project import Project, commit, copy_project


@pytest.fixture(scope="session")
def finished_smoke(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A committed project after `all` in the smoke preset, on two cores; copy it to use it."""
    project = copy_project(tmp_path_factory.mktemp("finished_smoke") / "project")
    commit(project.folder, "Start", start=True)
    project.snakemake("all", "--config", "preset=smoke", cores=2)
    yield project
    shutil.rmtree(project.folder)
