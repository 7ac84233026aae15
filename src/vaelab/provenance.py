"""Where a result came from: code revision, versions, machine settings, cost."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import version
from typing import Any

from vaelab import __version__


def git_state() -> dict[str, Any]:
    """Revision of the checkout in the current folder and whether it has uncommitted changes.

    Both are None outside a git checkout (an unpacked archive, say).
    """
    try:
        revision = _git("rev-parse", "HEAD")
        dirty = bool(_git("status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.CalledProcessError):
        return {"revision": None, "dirty": None}
    return {"revision": revision, "dirty": dirty}


def versions() -> dict[str, str]:
    """Versions of what determines the numbers."""
    return {
        "python": platform.python_version(),
        "torch": version("torch"),
        "numpy": version("numpy"),
        "vaelab": __version__,
    }


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()
