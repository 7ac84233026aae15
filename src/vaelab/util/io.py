"""Atomic files: written under a temporary name beside the target, then renamed.

So a reader or a second run never sees half a file, even if a job is killed.
"""

from __future__ import annotations

import csv
import fcntl
import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np

from vaelab.util.errors import VaelabError

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

# Between two looks at a lock that somebody else holds.
POLL_SECONDS = 0.5


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; on success it replaces `path`.

    Raises:
        VaelabError: the folder cannot be created or written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # mkstemp would make the file private; a result should be as readable as any new file.
        temporary = path.with_name(f".{path.name}.{uuid4().hex}{path.suffix}")
        temporary.touch(exist_ok=False)
    except OSError as error:
        raise VaelabError(f"cannot write {path}: {error.strerror or error}") from error
    try:
        yield temporary
        temporary.replace(path)
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
        raise VaelabError(f"cannot create {folder}: {error.strerror or error}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.info(f"another process is at work on {folder}; waiting for it")
            _wait_for(descriptor, meanwhile)
        except OSError:
            logger.info(f"{folder} cannot be locked; going on without a lock")
        yield
    finally:
        os.close(descriptor)


def _wait_for(descriptor: int, meanwhile: Callable[[], None]) -> None:
    while True:
        meanwhile()
        time.sleep(POLL_SECONDS)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        return


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON; NaN and infinities are refused (they are not JSON)."""
    with atomic_write(path) as stream:
        json.dump(value, stream, indent=2, allow_nan=False)
        stream.write("\n")


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
