"""What several test files share: one run of the whole workflow."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from workflow_project import Project, copy_project


@pytest.fixture(scope="session")
def finished_smoke(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project after `all` in the smoke preset, on two cores of this machine."""
    project = copy_project(tmp_path_factory.mktemp("smoke") / "project")
    project.snakemake("all", "--config", "preset=smoke", cores=2)
    yield project
    shutil.rmtree(project.folder)
