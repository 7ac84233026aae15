"""Readers: from what a source serves to verified content, and from content to arrays.

The *content* of a file is the bytes that its SHA-256 in the registry is of. Containers (gzip,
MATLAB, .npy) may be packed in many ways; the content may not.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import zlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

# No container, packed or unpacked, may be larger (bytes); the largest file has 47 MB.
SIZE_LIMIT = 64 * 2**20

_GZIP_MAGIC = b"\x1f\x8b"
_NPY_MAGIC = b"\x93NUMPY"


class Unusable(Exception):
    """What a source or a folder has is missing, damaged or another thing; the text says which."""


class Arrays(NamedTuple):
    """A dataset's arrays: uint8 images (N, ...), integer labels (N,) or None."""

    train_images: np.ndarray
    train_labels: np.ndarray | None
    test_images: np.ndarray
    test_labels: np.ndarray | None


class Reader(ABC):
    """How the files of a dataset are unpacked, kept and read."""

    def unpack(self, container: bytes) -> bytes:
        """Content of what a source serves or a folder keeps; `Unusable` if it is damaged."""
        return container

    def pack(self, content: bytes) -> bytes:
        """The bytes of the file that is kept."""
        return content

    @abstractmethod
    def arrays(self, contents: Sequence[bytes]) -> Arrays:
        """The arrays of the verified contents of all files, in registry order."""


def content_sha256(content: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def decompressed(container: bytes) -> bytes:
    """The bytes of a gzip stream; other bytes as they are.

    The bytes tell what they are, not a name: servers and proxies are known to unpack a .gz on the
    way.

    Raises:
        Unusable: truncated, damaged or too large.
    """
    if not container.startswith(_GZIP_MAGIC):
        return container
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(container)) as stream:
            # Reading past the limit also reaches the trailer, where the checksum is verified.
            content = stream.read(SIZE_LIMIT + 1)
    except EOFError as error:
        raise Unusable(f"truncated gzip ({len(container)} bytes)") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise Unusable(f"damaged gzip ({error})") from error
    if len(content) > SIZE_LIMIT:
        raise Unusable(f"unpacks to more than {SIZE_LIMIT} bytes")
    return content


@dataclass(frozen=True)
class IdxReader(Reader):
    """The form of MNIST: IDX files of training images and labels, test images and labels.

    The content is the decompressed file, or, with `gzipped`, the gzip file as it is served. The
    bytes are read here: torchvision's reader does the same, but its import takes longer than all
    of a small training.
    """

    gzipped: bool = False

    def unpack(self, container: bytes) -> bytes:
        """The content."""
        return container if self.gzipped else decompressed(container)

    def arrays(self, contents: Sequence[bytes]) -> Arrays:
        """Images (N, H, W) and labels (N,)."""
        return Arrays(*(self._array(decompressed(content)) for content in contents))

    def _array(self, idx: bytes) -> np.ndarray:
        # Two zero bytes, a type, a rank, big-endian sizes. The content is verified, so all fit.
        rank = idx[3]
        shape = np.frombuffer(idx, ">u4", rank, offset=4)
        return np.frombuffer(idx, np.uint8, offset=4 + 4 * rank).reshape(shape).copy()


@dataclass(frozen=True)
class FrameReader(Reader):
    """Frames of a video in one MATLAB or .npy file, of which random ones are the test set.

    The content is the pixels as a C-ordered (frames, pixels) uint8 array, kept as .npy. A MATLAB
    file has a frame in every column.
    """

    frames: int
    pixels: int
    test: int
    """Number of test frames."""
    seed: int
    """Seed of the split."""
    variable: str
    """Name of the array in a MATLAB file."""

    def unpack(self, container: bytes) -> bytes:
        """The pixels of a MATLAB or .npy file, gzipped or not."""
        frames = self._read(decompressed(container))
        expected = (self.frames, self.pixels)
        if frames.shape != expected or frames.dtype != np.uint8:
            raise Unusable(
                f"images of shape {frames.shape} and type {frames.dtype}, expected {expected} and "
                "uint8"
            )
        return np.ascontiguousarray(frames).tobytes()

    def pack(self, content: bytes) -> bytes:
        """A .npy file."""
        stream = io.BytesIO()
        np.save(stream, self._frames(content), allow_pickle=False)
        return stream.getvalue()

    def arrays(self, contents: Sequence[bytes]) -> Arrays:
        """Images (N, P) without labels."""
        (content,) = contents
        train, test = self.split(self._frames(content))
        return Arrays(train, None, test, None)

    def split(self, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Training and test frames, in the order of a fixed permutation.

        Args:
            frames: (N, ...).

        Returns:
            (N - test, ...) and (test, ...).
        """
        # RandomState, not default_rng: only its streams are promised never to change.
        order = np.random.RandomState(self.seed).permutation(len(frames))
        return frames[order[self.test :]], frames[order[: self.test]]

    def _frames(self, content: bytes) -> np.ndarray:
        return np.frombuffer(content, dtype=np.uint8).reshape(self.frames, self.pixels).copy()

    def _read(self, data: bytes) -> np.ndarray[Any, Any]:
        stream = io.BytesIO(data)
        try:
            if data.startswith(_NPY_MAGIC):
                frames: np.ndarray[Any, Any] = np.load(stream, allow_pickle=False)
            else:
                # Imported here: it is slow, and needed once in the life of a data folder.
                from scipy.io import loadmat

                frames = loadmat(stream)[self.variable].T
        except KeyError as error:
            raise Unusable(f"MATLAB file without an array {self.variable}") from error
        except Exception as error:  # these readers raise nearly anything on damaged bytes
            raise Unusable(f"truncated, damaged or neither MATLAB nor .npy ({error})") from error
        return frames
