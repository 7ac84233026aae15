"""The datasets' DVC pointers: which bytes this revision of the project was made with.

A pointer (data/raw/<dataset>.dvc, in git) holds the MD5 that DVC knows the folder by, and under
`meta` the SHA-256 by which vaelab knows its content. Comparing them needs no DVC.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import yaml

from vaelab.data.registry import DatasetEntry
from vaelab.util.errors import VaelabError


def pointer_path(dataset: DatasetEntry, root: Path) -> Path:
    """Path of a dataset's pointer."""
    return root / "raw" / f"{dataset.name}.dvc"


def folder_md5(dataset: DatasetEntry, root: Path) -> str:
    """DVC's hash of a dataset's folder: the MD5 of the list of its files with theirs."""
    listing = []
    for path in sorted(root / file.path for file in dataset.files):
        with open(path, "rb") as stream:
            md5 = hashlib.file_digest(stream, "md5").hexdigest()
        listing.append({"md5": md5, "relpath": path.name})
    return hashlib.md5(json.dumps(listing).encode()).hexdigest() + ".dir"


def check_pointer(dataset: DatasetEntry, root: Path) -> None:
    """Compare the files of a dataset with its pointer, where there is one.

    Raises:
        VaelabError: they differ, or the pointer cannot be read; both hashes are named.
    """
    path = pointer_path(dataset, root)
    try:
        pointer = yaml.safe_load(path.read_text(encoding="utf-8"))
        pairs = [
            ("MD5", pointer["outs"][0]["md5"], folder_md5(dataset, root)),
            ("SHA-256", pointer["meta"]["sha256"], dataset.sha256),
        ]
    except FileNotFoundError:
        return
    except (OSError, yaml.YAMLError, LookupError, TypeError) as error:
        raise VaelabError(f"{path} is not a pointer as vaelab writes them: {error!r}") from error
    for kind, pinned, found in pairs:
        if pinned != found:
            raise VaelabError(
                f"{dataset.name}: {path} pins the content with {kind} {pinned}, but what was "
                f"fetched into {root / 'raw' / dataset.name} has {found}.\n"
                "Results of this revision rest on the pinned content. Check out the pointer and "
                "the sources of the data from the same revision"
                f" (git log -- {path} src/vaelab/data/registry.py)."
            )
