"""The Makefile: what its targets would run, and the Python that it refuses."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from workflow_project import ROOT

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")

# Says that it is of another version when it is asked, and does nothing else.
PYTHON = """\
#!/bin/sh
[ "$1" = -c ] || exit 9
exec {python} -c "import sys; sys.version_info = ({version}); $2"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What `make` needs of a bare clone, in a folder with a space and a letter beyond ASCII."""
    folder = tmp_path / "mon café"
    shutil.copytree(ROOT / "envs", folder / "envs")
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, folder / name)
    return folder


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # Of the `make` that runs the tests, and of whoever gave it, nothing is passed on.
    own = {"PATH": os.environ["PATH"]}
    return subprocess.run(
        ["make", *arguments], cwd=folder, env=own, capture_output=True, text=True, check=False
    )


def commands(folder: Path, *arguments: str) -> list[str]:
    """What `make` would run."""
    done = make(folder, "--dry-run", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_make_installs_runs_everything_and_names_the_page(folder: Path) -> None:
    *_, run, said = printed = commands(folder)
    assert "sys.version_info" in printed[0]
    assert run == ".venv/bin/snakemake --cores all all"
    assert said == 'echo "Done. The results page is results/quick/index.html"'
    assert ".venv/bin/snakemake --cores 4 all" in commands(folder, "CORES=4")


@pytest.mark.parametrize("target", ["restore", "publish"])
def test_preset_is_handed_to_restore_and_publish(target: str, folder: Path) -> None:
    *_, command = commands(folder, target, "PRESET=modern")
    assert command == f".venv/bin/vaelab {target} --config preset=modern"
    *_, command = commands(folder, target)
    assert command.rstrip() == f".venv/bin/vaelab {target}"


@pytest.mark.parametrize(
    ("version", "refused"),
    [("3, 10, 14", True), ("3, 11, 0", False), ("3, 13, 9", False), ("3, 14, 0", True)],
)
def test_python_without_wheels_is_refused_before_anything_is_made(
    version: str, refused: bool, folder: Path
) -> None:
    python = folder.parent / "python"
    python.write_text(PYTHON.format(python=sys.executable, version=version))
    python.chmod(0o755)
    done = make(folder, "setup", f"PYTHON={python}")
    assert done.returncode != 0
    message = "vaelab needs Python 3.11, 3.12 or 3.13: for others its packages have no wheels yet."
    assert (message in done.stdout) == refused
    assert ("-m venv" in done.stdout) == (not refused)


def test_environment_that_was_moved_or_lost_its_python_is_made_anew(folder: Path) -> None:
    environment = folder / ".venv"
    (environment / "bin").mkdir(parents=True)
    (environment / "bin/python").symlink_to(sys.executable)
    for name in (".installed", ".installed-dev"):
        (environment / name).write_text(f"{folder}\n")
    assert commands(folder, "setup") == ["make: Nothing to be done for 'setup'."]
    (environment / ".installed").write_text("/elsewhere\n")
    assert any("-m venv --clear .venv" in line for line in commands(folder, "setup"))
    (environment / ".installed").write_text(f"{folder}\n")
    (environment / "bin/python").unlink()
    (environment / "bin/python").symlink_to("/gone/python")
    assert any("-m venv --clear .venv" in line for line in commands(folder, "setup"))


def test_settings_of_pip_and_modules_reach_no_installation(folder: Path) -> None:
    with (folder / "Makefile").open("a") as makefile:
        makefile.write("shown:\n\t@env | grep -E '^(PIP_|PYTHON|XDG_CACHE)' | sort\n")
    hostile = ("PYTHONPATH=/module", "PIP_USER=1", "PIP_REQUIRE_VIRTUALENV=1", "HOME=/proc/none")
    done = subprocess.run(
        ["env", "-i", f"PATH={os.environ['PATH']}", *hostile, "make", "shown"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    *pip, cache = done.stdout.splitlines()
    assert pip == ["PIP_REQUIRE_VIRTUALENV=0", "PIP_USER=0"]
    assert cache.partition("=")[2].endswith(f"/vaelab-cache-{os.getuid()}")
