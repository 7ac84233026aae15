"""manifest.json: the hash of every file of a preset that is of no single run, and what it is from.

Each command adds what it writes. The files of a run are on record in its provenance, and that is
on record here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypedDict

from vaelab.util.io import file_sha256, one_at_a_time, read_json, write_json


class Entry(TypedDict):
    """A file: its SHA-256, and digests of the code and of the inputs that made it ("" for none)."""

    sha256: str
    code: str
    inputs: str


def manifest_file(folder: Path) -> Path:
    """The manifest of results/<preset>."""
    return folder / "manifest.json"


def read_manifest(folder: Path) -> Mapping[str, Entry]:
    """The entries by their paths in results/<preset>; none before the first is written.

    Raises:
        VaelabError: the manifest is damaged.
    """
    path = manifest_file(folder)
    entries: dict[str, Entry] = read_json(path) if path.is_file() else {}
    return entries


def put_on_record(folder: Path, files: Iterable[str], *, code: str = "", inputs: str = "") -> None:
    """Put files, by their paths in results/<preset>, on record as they are now.

    Raises:
        VaelabError: the manifest is damaged or cannot be written.
    """
    new = {
        file: Entry(sha256=file_sha256(folder / file), code=code, inputs=inputs) for file in files
    }
    # The workflow itself holds the lock of the folder.
    with one_at_a_time(folder / "runs"):
        entries = {**read_manifest(folder), **new}
        write_json(manifest_file(folder), dict(sorted(entries.items())))
