"""Every check of `make lint` passes (`snakemake --lint` is in test_workflow_dag)."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.specifiers import SpecifierSet

from workflow_project import ROOT

CHECKS = (
    "ruff check .",
    "ruff format --check .",
    "snakefmt --check Snakefile workflow",
    "codespell",
    "mypy",
    "lint-imports",
)


@pytest.mark.parametrize("check", CHECKS)
def test_check_passes(check: str) -> None:
    command, *arguments = check.split()
    done = subprocess.run(
        [str(Path(sys.executable).parent / command), *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_workflow_of_github_is_valid_and_runs_targets_of_the_makefile() -> None:
    """Its schema, and no command that a developer would not type."""
    for path in (ROOT / ".github/workflows").glob("*.yml"):
        check = ["check-jsonschema", "--builtin-schema", "vendor.github-workflows", str(path)]
        done = subprocess.run(
            [str(Path(sys.executable).parent / check[0]), *check[1:]],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout
    content = yaml.safe_load((ROOT / ".github/workflows/checks.yml").read_text())
    steps = [step for job in content["jobs"].values() for step in job["steps"]]
    runs = [step["run"] for step in steps if "run" in step]
    targets = re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.M)[1].split()
    assert sorted(runs) == ["make docs", "make lint", "make smoke", "make test"]
    assert {run.removeprefix("make ") for run in runs} <= set(targets)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    supported = SpecifierSet(project["requires-python"])
    versions = [f"3.{minor}" for minor in range(99) if f"3.{minor}.0" in supported]
    assert content["jobs"]["test"]["strategy"]["matrix"]["python"] == versions


def test_hooks_run_the_tools_of_make_lint() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    tools = [hook["entry"].removeprefix(".venv/bin/").split()[0] for hook in hooks]
    assert tools == [check.split()[0] for check in CHECKS if check != "lint-imports"]


def test_these_are_the_checks_of_make_lint() -> None:
    recipe = re.search(r"^lint: .*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.M)
    assert recipe is not None
    commands = [line.removeprefix("\t$(BIN)/") for line in recipe[1].splitlines()]
    assert commands == [*CHECKS, "snakemake --lint"]
