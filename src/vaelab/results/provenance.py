"""Where a result came from: code revision, versions, machine settings, cost."""

from __future__ import annotations

import json
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

from vaelab import __version__
from vaelab.results.records import GitState
from vaelab.util.errors import VaelabError
from vaelab.util.io import CHECKOUT

# Git writes the revision into this file when it makes an archive, and so does an image's build.
REVISION_FILE = Path(__file__).parents[1] / "revision.txt"


def git_state(results: str | Path = "results") -> GitState:
    """Revision of these sources and whether they have uncommitted changes.

    Git is believed only about a checkout whose top folder holds these sources: they may lie in
    a folder that belongs to another repository. Changes below `results` do not count: earlier
    runs write there, and published results are under version control too. Elsewhere the revision
    is that of the archive, image or wheel, if one is on record, and `dirty` is None.
    """
    try:
        if Path(_git("rev-parse", "--show-toplevel")).resolve() == CHECKOUT:
            revision = _git("rev-parse", "HEAD")
            ours = Path(results).resolve()
            inside = ours.is_relative_to(CHECKOUT) and ours != CHECKOUT
            left_out = [f":(exclude){ours.relative_to(CHECKOUT)}"] if inside else []
            command = ["status", "--porcelain", "--untracked-files=no", "--", ".", *left_out]
            return {"revision": revision, "dirty": bool(_git(*command))}
    except (OSError, subprocess.CalledProcessError):
        pass
    return {"revision": _built_from(), "dirty": None}


def _built_from() -> str | None:
    """The revision that an archive, an image or an installation from git was made of."""
    if REVISION_FILE.is_file():
        text = REVISION_FILE.read_text(encoding="utf-8").strip()
        if not text.startswith("$Format"):
            return text
    try:
        installed = distribution("vaelab")
    except PackageNotFoundError:
        return None
    # The package that is installed may be another than these sources.
    if Path(str(installed.locate_file("vaelab"))).resolve() != REVISION_FILE.parent.resolve():
        return None
    origin = json.loads(installed.read_text("direct_url.json") or "{}")
    commit: str | None = origin.get("vcs_info", {}).get("commit_id")
    return commit


def ignored_by_git(path: Path) -> bool:
    """Whether .gitignore keeps a path out of version control.

    Raises:
        VaelabError: git cannot tell.
    """
    command = ["git", "check-ignore", "--quiet", str(path)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise VaelabError("git is not installed; publishing needs it and a clone") from error
    if done.returncode > 1:
        raise VaelabError(f"git cannot tell whether it ignores {path}: {done.stderr.strip()}")
    return done.returncode == 0


def versions() -> dict[str, str]:
    """Versions of the software that determines the numbers."""
    return {
        "python": platform.python_version(),
        "torch": version("torch"),
        "numpy": version("numpy"),
        "vaelab": __version__,
    }


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(CHECKOUT), *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()
