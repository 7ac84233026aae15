"""docs/extending.md: its exercises, done in a copy of the project with the text of the page."""

from __future__ import annotations

import csv
import json
import re
import shutil

import pytest

from result_folders import write_runs
from workflow_project import ROOT, Project, copy_project

PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def steps() -> list[tuple[str, str]]:
    """(file, text to append): each block of code with the last file named before it."""
    found, end = [], 0
    for block in FENCE.finditer(PAGE):
        files = re.findall(r"`([\w/]+/[\w/]+\.\w+)`", PAGE[end : block.start()])
        found.append((files[-1], block[2]))
        end = block.end()
    return found


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = copy_project(tmp_path_factory.mktemp("extending") / "project")
    for name, text in steps():
        path = project.folder / name
        with open(path, "a", encoding="utf-8") as stream:
            stream.write("\n\n" * (path.suffix == ".py" and path.stat().st_size > 0) + text)
    return project


def run(project: Project, *command: str) -> str:
    done = project.command(*command)
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_a_run(project: Project) -> None:
    spec = json.loads(run(project, "vaelab", "show", "vae_small"))["vae_small-s0"]
    assert (spec["hidden"], spec["optimizer"]) == ([50, 50], "adam")


def test_a_figure(project: Project) -> None:
    folder = project.folder / "results" / "quick"
    write_runs(folder, ["vae", "cvae_onehot"])
    run(project, "vaelab", "figure", "16")
    assert (folder / "figures" / "figure_16.png").is_file()
    plan = project.plan("figure_16")
    assert plan.rules["figure_16"] == 1


def test_a_claim(project: Project) -> None:
    folder = project.folder / "results" / "modern"
    shutil.copytree(ROOT / "results" / "modern", folder)
    run(project, "vaelab", "claims", "--config", "preset=modern")
    with open(folder / "claims.csv", encoding="utf-8", newline="") as stream:
        verdicts = {row["id"]: row["verdict"] for row in csv.DictReader(stream)}
    assert verdicts["C51"] == "holds"


def test_the_rules_of_the_house_hold_after_the_exercises(project: Project) -> None:
    run(project, "ruff", "check", "src")
    run(project, "ruff", "format", "--check", "src")
    run(project, "lint-imports")
