"""The dvc command, one call at a time."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from vaelab.util.errors import VaelabError

# What a failure leaves behind.
UNCHANGED = "Nothing here was changed"
AGAIN = "Nothing is lost, give the command again"

# Locked by `restore` and `publish`: of two DVC commands at once, one fails on DVC's own lock.
LOCKED_FOLDER = Path(".dvc")


def default_remote() -> str | None:
    """Name of the remote that is configured as the default, if one is.

    Raises:
        VaelabError: DVC is not installed, or this is no clone, where it does nothing.
    """
    if not Path(".git").exists():
        raise VaelabError(
            "DVC works in a git clone alone, and here is no .git: clone the repository, or take a "
            "bundle (`vaelab bundle` there, `vaelab restore --from FILE` here)"
        )
    done = _dvc("config", "core.remote")
    return done.stdout.strip() or None


def pull(folder: Path) -> None:
    """Bring what the pointers under a folder point to, as far as the remote has it."""
    _run("bring the content", UNCHANGED, "pull", "--allow-missing", "--recursive", str(folder))


def add(paths: Sequence[Path]) -> None:
    """Put files and folders under DVC in one call; their dates stay as they are."""
    _run("take the files", AGAIN, "add", "--no-relink", *map(str, paths))


def push(pointers: Sequence[Path]) -> None:
    """Send what pointers point to."""
    _run("send the content", AGAIN, "push", *map(str, pointers))


def _executable() -> str:
    """DVC of the environment that runs this, or any that is on PATH."""
    own = Path(sys.prefix) / "bin" / "dvc"
    found = str(own) if own.is_file() else shutil.which("dvc")
    if found is None:
        raise VaelabError("DVC is not installed; `make setup` installs it")
    return found


def _dvc(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [_executable(), *arguments],
        capture_output=True,
        text=True,
        env=os.environ | {"DVC_NO_ANALYTICS": "1"},
        check=False,
    )


def _run(task: str, state: str, *arguments: str) -> None:
    """Call DVC; where it fails, raise a VaelabError with its reason and the state it leaves."""
    done = _dvc(*arguments)
    if done.returncode:
        said = re.findall(r"^(?:ERROR|WARNING): (.*)", done.stderr, flags=re.MULTILINE)
        last = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
        reason = "; ".join(said) or last[0]
        raise VaelabError(
            f"DVC could not {task} (remote {default_remote()!r}): {reason}\n"
            f"{state}; `dvc remote list` shows where the remote is."
        )
