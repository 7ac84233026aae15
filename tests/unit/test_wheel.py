"""The wheel: what breaks in silence when files move is missing from it, or is looked for beside it.

It is built without the network and used in an empty folder.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from vaelab.settings.runs import OWN_TABLE
from workflow_project import ROOT


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, folder / name)
    compiled = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(ROOT / "src", folder / "src", ignore=compiled)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
    command += ["--no-index", "--quiet", "--wheel-dir", str(folder), str(folder)]
    subprocess.run(command, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    zipfile.ZipFile(built).extractall(folder / "unpacked")
    return folder / "unpacked"


@pytest.mark.slow
def test_wheel_holds_every_file_of_the_packages(wheel: Path) -> None:
    packages = ("vaelab", "snakemake_logger_plugin_vaelab")
    sources = [p for name in packages for p in (ROOT / "src" / name).rglob("*") if p.is_file()]
    expected = {
        path.relative_to(ROOT / "src").as_posix()
        for path in sources
        if path.parent.name != "__pycache__"
    }
    found = {path.relative_to(wheel).as_posix() for path in wheel.rglob("*") if path.is_file()}
    assert expected - found == set()


def run(wheel: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(wheel)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_wheel_is_enough_in_an_empty_folder(wheel: Path, tmp_path: Path) -> None:
    code = """
import importlib, pkgutil, sys
from pathlib import Path
import vaelab
assert Path(vaelab.__file__).is_relative_to(sys.argv[1]), vaelab.__file__
for module in pkgutil.walk_packages(vaelab.__path__, "vaelab."):
    importlib.import_module(module.name)
"""
    done = run(wheel, tmp_path, "-c", code, str(wheel))
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_command_of_the_wheel_says_what_it_lacks(wheel: Path, tmp_path: Path) -> None:
    done = run(wheel, tmp_path, "-m", "vaelab.cli", "show", "vae")
    assert done.returncode == 2
    assert done.stderr == "vaelab: config/config.yaml does not exist\n"


def test_own_run_table_is_found_in_a_checkout() -> None:
    assert OWN_TABLE == ROOT / "config/runs.tsv"
    assert OWN_TABLE.is_file()
