"""From what a source serves to verified content, and from content to the file that is kept.

The *content* of a file is the bytes that its SHA-256 in the registry is of. Containers
(gzip, MATLAB, .npy) may be packed in many ways; the content may not.

- kind `idx`: the decompressed IDX file, kept as it is;
- kind `faces`: the pixels as a C-ordered (1965, 560) uint8 array, kept as .npy.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import zlib
from pathlib import Path
from typing import Literal

import numpy as np

from vaelab.util.io import atomic_write

Kind = Literal["idx", "faces"]

FACES_SHAPE = (1965, 560)
FACES_KEY = "ff"
# No container, packed or unpacked, may be larger (bytes); the largest file has 47 MB.
SIZE_LIMIT = 64 * 2**20

_GZIP_MAGIC = b"\x1f\x8b"
_NPY_MAGIC = b"\x93NUMPY"


class FormatError(Exception):
    """A container that does not hold what it should; the text is the reason."""


def content_sha256(content: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def unpack(container: bytes, kind: Kind) -> bytes:
    """Content of a container: gzip or plain; for faces also a MATLAB file or .npy.

    What the bytes are is told by the bytes, not by a name: servers and proxies are known to
    unpack a .gz on the way.

    Raises:
        FormatError: truncated, damaged or of another shape.
    """
    if not container:
        raise FormatError("empty file")
    data = _gunzip(container) if container.startswith(_GZIP_MAGIC) else container
    if kind == "idx":
        return data
    faces = _read_npy(data) if data.startswith(_NPY_MAGIC) else _read_mat(data)
    return np.ascontiguousarray(faces).tobytes()


def write_content(path: Path, content: bytes, kind: Kind) -> None:
    """Keep content as the file at `path`, which appears complete or not at all."""
    with atomic_write(path, "wb") as stream:
        if kind == "idx":
            stream.write(content)
        else:
            np.save(stream, faces_array(content), allow_pickle=False)


def faces_array(content: bytes) -> np.ndarray:
    """Pixels of the face set, uint8 (1965, 560), each row a 28 x 20 image in row-major order."""
    return np.frombuffer(content, dtype=np.uint8).reshape(FACES_SHAPE).copy()


def _gunzip(data: bytes) -> bytes:
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
            # Reading past the limit also reaches the trailer, where the checksum is verified.
            content = stream.read(SIZE_LIMIT + 1)
    except EOFError as error:
        raise FormatError(f"truncated gzip ({len(data)} bytes)") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise FormatError(f"damaged gzip ({error})") from error
    if len(content) > SIZE_LIMIT:
        raise FormatError(f"unpacks to more than {SIZE_LIMIT} bytes")
    return content


def _read_npy(data: bytes) -> np.ndarray:
    try:
        array = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise FormatError(f"truncated or damaged .npy file ({error})") from error
    return _checked_faces(array)


def _read_mat(data: bytes) -> np.ndarray:
    # Imported here: scipy.io is slow to import and needed once in the life of a data folder.
    from scipy.io import loadmat, whosmat

    try:
        # The directory first: a hostile file is refused before its arrays are unpacked.
        shapes = {name: shape for name, shape, _ in whosmat(io.BytesIO(data))}
        if shapes.get(FACES_KEY) != FACES_SHAPE[::-1]:
            raise FormatError(
                f"MATLAB file without a {FACES_KEY} of shape {FACES_SHAPE[::-1]}: {shapes}"
            )
        array = loadmat(io.BytesIO(data), variable_names=[FACES_KEY])[FACES_KEY]
    except FormatError:
        raise
    except Exception as error:  # scipy's readers raise nearly anything on damaged bytes
        raise FormatError(f"truncated, damaged or not a MATLAB file ({error})") from error
    return _checked_faces(array.T)


def _checked_faces(array: np.ndarray) -> np.ndarray:
    if array.shape != FACES_SHAPE or array.dtype != np.uint8:
        raise FormatError(
            f"faces of shape {array.shape} and type {array.dtype}, expected {FACES_SHAPE} and uint8"
        )
    return array
