"""Every check of `make lint` passes (`snakemake --lint` is in test_workflow_dag)."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from workflow_project import ROOT

CHECKS = (
    "ruff check .",
    "ruff format --check .",
    "snakefmt --check Snakefile workflow",
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


def test_these_are_the_checks_of_make_lint() -> None:
    recipe = re.search(r"^lint: .*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.M)
    assert recipe is not None
    commands = [line.removeprefix("\t$(BIN)/") for line in recipe[1].splitlines()]
    assert commands == [*CHECKS, "snakemake --lint"]
