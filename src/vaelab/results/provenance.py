"""Where a result came from: code revision, versions, machine settings, cost."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

from vaelab import __version__
from vaelab.results.records import GitState


def git_state(results: str | Path = "results") -> GitState:
    """Revision of the checkout in the current folder and whether it has uncommitted changes.

    Changes below `results` do not count: earlier runs write there, and published results are under
    version control too. Both values are None outside a git checkout, for example in an archive.
    """
    try:
        revision = _git("rev-parse", "HEAD")
        code = [":/"] if Path(results).is_absolute() else [":/", f":(exclude){results}"]
        dirty = bool(_git("status", "--porcelain", "--untracked-files=no", "--", *code))
    except (OSError, subprocess.CalledProcessError):
        return {"revision": None, "dirty": None}
    return {"revision": revision, "dirty": dirty}


def ignored_by_git(path: Path) -> bool:
    """Whether .gitignore keeps a path out of version control."""
    try:
        _git("check-ignore", "--quiet", str(path))
    except subprocess.CalledProcessError:
        return False
    return True


def versions() -> dict[str, str]:
    """Versions of the software that determines the numbers."""
    return {
        "python": platform.python_version(),
        "torch": version("torch"),
        "numpy": version("numpy"),
        "vaelab": __version__,
    }


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()
