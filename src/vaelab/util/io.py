"""Atomic files: written under a temporary name beside the target, then renamed.

So a reader or a second run never sees half a file, even if a job is killed.
"""

from __future__ import annotations

import csv
import errno
import hashlib
import json
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np
from filelock import lock_descriptor

from vaelab.util.errors import VaelabError

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

# The checkout that these sources are in, where they are in one.
CHECKOUT = Path(__file__).resolve().parents[3]

# Between two looks at a lock that somebody else holds.
POLL_SECONDS = 0.5

# What a user can do about an error of the file system.
_REMEDIES = {
    errno.ENOSPC: "free some space and give the same command again; nothing finished is lost",
    errno.EDQUOT: "free some space and give the same command again; nothing finished is lost",
    errno.EROFS: "choose a folder that can be written",
    errno.EACCES: "choose a folder that can be written, or ask its owner",
}


def in_words(error: OSError) -> str:
    """What is wrong in the file system, and what to do about it."""
    remedy = _REMEDIES.get(error.errno or 0)
    return (error.strerror or str(error)) + (f"; {remedy}" if remedy else "")


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; on success it replaces `path`.

    Raises:
        VaelabError: the folder cannot be created or written, or the disk is full.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # mkstemp would make the file private; a result should be as readable as any new file.
        temporary = path.with_name(f".{path.name}.{uuid4().hex}{path.suffix}")
        temporary.touch(exist_ok=False)
    except OSError as error:
        raise VaelabError(f"cannot write {path}: {in_words(error)}") from error
    mode = temporary.stat().st_mode
    try:
        yield temporary
        # safetensors replaces the file by a private one.
        temporary.chmod(mode)
        temporary.replace(path)
    except OSError as error:
        if error.errno not in _REMEDIES:
            raise
        raise VaelabError(f"cannot write {path}: {in_words(error)}") from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_write(path: str | Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a file for writing ("w" or "wb") that appears at `path` only when complete."""
    encoding = None if "b" in mode else "utf-8"
    with atomic_path(path) as temporary, open(temporary, mode, encoding=encoding) as stream:
        yield stream


@contextmanager
def one_at_a_time(folder: Path, *, meanwhile: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold an advisory lock on a folder, created if need be; a second process waits.

    Without it two processes would still be safe (files are renamed into place whole), only
    wasteful; so where a file system cannot lock a folder, the work goes on. The lock is the
    folder's own: a lock file would be in the way of folders that DVC or git describe.

    Args:
        folder: what to lock.
        meanwhile: called twice a second of a wait, which it may end by raising.

    Raises:
        VaelabError: the folder cannot be created or read.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise VaelabError(f"cannot create {folder}: {in_words(error)}") from error
    try:
        if not _locked(descriptor, folder):
            meanwhile()
            logger.info(f"another process is at work on {folder}; waiting for it")
            while not _locked(descriptor, folder):
                time.sleep(POLL_SECONDS)
                meanwhile()
        yield
    finally:
        os.close(descriptor)


def _locked(descriptor: int, folder: Path) -> bool:
    """Lock a folder for as long as its descriptor is open; False while another process has it."""
    try:
        return lock_descriptor(descriptor, blocking=False)
    except OSError:
        logger.info(f"{folder} cannot be locked; going on without a lock")
        return True


def lock_for_good(folder: Path) -> bool:
    """Lock a folder, created if need be, until this process ends; False if another has it."""
    folder.mkdir(parents=True, exist_ok=True)
    return _locked(os.open(folder, os.O_RDONLY), folder)


def usable_caches() -> None:
    """Where the home cannot be written, let libraries keep their caches in a temporary folder."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    with suppress(OSError):
        cache.mkdir(parents=True, exist_ok=True)
        if os.access(cache, os.W_OK):
            return
    fallback = str(Path(tempfile.gettempdir()) / f"vaelab-cache-{os.getuid()}")
    for name in ("XDG_CACHE_HOME", "MPLCONFIGDIR", "NUMBA_CACHE_DIR"):
        os.environ.setdefault(name, fallback)


def not_in_future(path: Path) -> None:
    """Date a file that a wrong clock dated in the future to now, so that outputs can be newer."""
    if path.stat().st_mtime > time.time():
        # Data may be another user's: then Snakemake says what is wrong.
        with suppress(OSError):
            os.utime(path)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def as_json(value: Any) -> str:
    """`value` as indented JSON; NaN and infinities are refused (they are not JSON)."""
    return json.dumps(value, indent=2, allow_nan=False) + "\n"


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as `as_json` has it."""
    text = as_json(value)
    with atomic_write(path) as stream:
        stream.write(text)


def read_json(path: str | Path) -> Any:
    """Read a JSON file.

    Raises:
        VaelabError: the file is missing, unreadable or not JSON; the message names it.
    """
    try:
        with open(path, encoding="utf-8") as stream:
            return json.load(stream)
    except FileNotFoundError as error:
        raise VaelabError(f"{path} does not exist") from error
    except OSError as error:
        raise VaelabError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise VaelabError(f"{path} is not valid JSON: {error}") from error


def write_npz(path: str | Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write a compressed archive of named arrays."""
    with atomic_write(path, "wb") as stream:
        np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]  # no array has its name


def write_rows(path: str | Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows with equal keys as CSV, without pandas; floats with 6 significant digits."""
    with atomic_write(path) as stream:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})


def write_csv(path: str | Path, frame: pd.DataFrame) -> None:
    """Write a table without its index; floats with 6 significant digits."""
    with atomic_write(path) as stream:
        frame.to_csv(stream, index=False, float_format="%.6g")
