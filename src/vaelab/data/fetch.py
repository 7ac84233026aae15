"""Bring raw data into the data folder: tried source by source, verified, moved in atomically."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

from vaelab.data.pointers import check_pointer
from vaelab.data.readers import FormatError, content_sha256
from vaelab.data.registry import DATASETS, DataFile, DatasetEntry, Datasets
from vaelab.data.sources import (
    MIRROR_VARIABLE,
    OutOfReach,
    Source,
    SourceFailure,
    open_sources,
)
from vaelab.data.store import SourceRecord, examine, read_record, write_record
from vaelab.settings.config import PUBLISHED
from vaelab.util.errors import VaelabError
from vaelab.util.io import atomic_write, not_in_future, one_at_a_time

UNKNOWN_SOURCE = "found in the data folder"

logger = logging.getLogger(__name__)


class _NoSource(Exception):
    """Every source of a file failed; the arguments are one line per attempt."""


def fetch_dataset(
    name: str,
    root: str | Path = "data",
    mirror: str | Path | None = None,
    base_urls: Mapping[str, Sequence[str]] | None = None,
    fallback: Literal["none", "synthetic"] = "none",
    registry: Datasets = DATASETS,
) -> SourceRecord:
    """Make sure that the verified files of a dataset are under `root`/raw/<name>.

    Files that are there and verified are left alone. A corrupt one is named and replaced.
    Synthetic images are no substitute: the real sources are tried again each time. Two calls at
    once are safe: the second waits for the first and finds its work done.

    Args:
        name: name of a registered dataset.
        root: the data folder.
        mirror: local folder, laid out like `data/raw`; without it VAELAB_DATA_MIRROR.
        base_urls: by dataset, what replaces the registry's sources: URL bases and "npm".
        fallback: "synthetic" allows procedural images where no source gives the real ones.
        registry: the datasets that exist.

    Returns:
        Where the files came from, as written to source.json beside them.

    Raises:
        VaelabError: no source gave a good file (the message lists what was tried and what to
            do), or the files are not what the dataset's DVC pointer pins.
    """
    root = Path(root)
    dataset = registry[name]
    if fallback == "synthetic" and dataset.stand_in is None:
        raise VaelabError(f"dataset {name} has no synthetic fallback; allowed is: none")
    mirror = mirror or os.environ.get(MIRROR_VARIABLE) or None
    with (
        one_at_a_time(root / "raw" / name),
        tempfile.TemporaryDirectory(prefix="vaelab-") as scratch,
    ):
        sources = open_sources(dataset, root, Path(scratch), mirror, base_urls)
        try:
            record = _fetch_real(dataset, root, sources)
            check_pointer(dataset, root)
        except _NoSource as failure:
            if fallback == "none":
                raise VaelabError(_advice(dataset, root, failure.args)) from None
            record = _fall_back(dataset, root)
        write_record(dataset, root, record)
        for file in dataset.files:
            not_in_future(root / file.path)
        return record


def _fetch_real(dataset: DatasetEntry, root: Path, sources: Iterable[Source]) -> SourceRecord:
    """Verify or fetch every file of a dataset; a source is asked for all that is missing.

    Raises:
        _NoSource: a file is to be had nowhere.
    """
    record = read_record(dataset, root)
    origins = dict(record.files) if record and not record.synthetic else {}
    missing: dict[DataFile, list[str]] = {}
    for file in dataset.files:
        state, _ = examine(dataset, file, root, record)
        if state.state == "verified":
            origins.setdefault(file.name, UNKNOWN_SOURCE)
            continue
        missing[file] = [f"{file.name}, content SHA-256 {file.sha256}, was tried from:"]
        if state.state != "missing":
            logger.info(f"{dataset.name}: {state.problem}; to be replaced")
            missing[file].insert(0, f"The file that is there cannot be used: {state.problem}")
    for source in sources if missing else ():
        # A host that is out of reach costs one time-out and not one a file.
        with suppress(OutOfReach):
            for file in list(missing):
                content = _ask(dataset, source, file, missing[file])
                if content is not None:
                    with atomic_write(root / file.path, "wb") as stream:
                        stream.write(dataset.reader.pack(content))
                    origins[file.name] = source.label
                    del missing[file]
        if not missing:
            break
    for attempts in missing.values():
        raise _NoSource(*attempts)
    origins = {file.name: origins[file.name] for file in dataset.files}
    return SourceRecord(dataset.name, dataset.sha256, synthetic=False, files=origins)


def _ask(
    dataset: DatasetEntry, source: Source, file: DataFile, attempts: list[str]
) -> bytes | None:
    """Verified content of a file from a source; what fails is added to the attempts.

    Raises:
        OutOfReach: the source has nothing else, either.
    """
    for address in source.addresses(file):
        try:
            content = dataset.reader.unpack(source.read(address))
            if (found := content_sha256(content)) != file.sha256:
                raise SourceFailure(
                    f"wrong content: SHA-256 {found} ({len(content)} bytes), expected {file.sha256}"
                )
        except (SourceFailure, FormatError) as failure:
            logger.info(f"{file.dataset}: {address}: {failure}")
            attempts.append(f"  - {address}: {failure}")
            if isinstance(failure, OutOfReach):
                raise
        else:
            logger.info(f"{file.dataset}: {address}: SHA-256 verified")
            return content
    return None


def _fall_back(dataset: DatasetEntry, root: Path) -> SourceRecord:
    """Keep the synthetic images that are there, or make them."""
    assert dataset.stand_in is not None
    made = f"procedural images made by vaelab (not {dataset.title})"
    record = read_record(dataset, root)
    (file,) = dataset.files
    state, content = examine(dataset, file, root, record)
    if record is None or state.state != "synthetic" or content is None:
        content = dataset.stand_in().tobytes()
        record = SourceRecord(dataset.name, content_sha256(content), True, {file.name: made})
        # The record first: without it synthetic images would pass for corrupt ones, and they must
        # never pass for real ones.
        write_record(dataset, root, record)
        with atomic_write(state.path, "wb") as stream:
            stream.write(dataset.reader.pack(content))
    logger.warning(
        f"{dataset.name}: WARNING: no source gave the real data; {state.path} holds {made}, and "
        "everything made from it is marked so"
    )
    return record


def _advice(dataset: DatasetEntry, root: Path, attempts: Sequence[str]) -> str:
    """The error text when every source failed: what was tried, and what to do."""
    folder = root / "raw" / dataset.name
    file = dataset.files[0]
    names = " or ".join(f"{dataset.name}/{name}" for name in file.containers)
    lines = [
        f"{dataset.name}: no source gave good data.",
        *attempts,
        "What to do, one of:",
        f"  - check the network connection and run `vaelab fetch {dataset.name}` again;",
        f"  - set {MIRROR_VARIABLE} (or data.mirror in the configuration) to a folder that has",
        f"    {names}" + (" and so on;" if len(dataset.files) > 1 else ";"),
        f"  - put such files into {folder} by hand and run `vaelab fetch {dataset.name}`"
        + (";" if dataset.stand_in else "."),
    ]
    if dataset.stand_in:
        lines += [
            f"  - in other presets than {', '.join(PUBLISHED)},",
            f"    set data.{dataset.name}.fallback: synthetic to go on with procedural images;",
            "    the results are then marked so.",
        ]
    return "\n".join(lines)
