"""The IDX format of MNIST: two zero bytes, a type, a rank, big-endian sizes, then the values."""

from __future__ import annotations

import math
import struct

import numpy as np

from vaelab.util.errors import VaelabError

UNSIGNED_BYTE = 0x08


def parse_idx(data: bytes, name: str) -> np.ndarray:
    """Parse an IDX file of unsigned bytes.

    Args:
        data: the whole (decompressed) file.
        name: what to call it in an error.

    Returns:
        A writable uint8 array of the shape that the header states.

    Raises:
        VaelabError: the magic number, the header or the length is not that of such a file.
    """
    if len(data) < 4:
        raise VaelabError(f"{name}: not an IDX file: {len(data)} bytes are less than a header")
    zeros, kind, rank = struct.unpack_from(">HBB", data)
    if zeros != 0 or kind != UNSIGNED_BYTE or rank == 0:
        raise VaelabError(
            f"{name}: not an IDX file of unsigned bytes: magic number 0x{data[:4].hex()}, "
            "expected 0x000008 and the number of dimensions"
        )
    header = 4 + 4 * rank
    if len(data) < header:
        raise VaelabError(
            f"{name}: truncated IDX header: {len(data)} bytes, {rank} dimensions need {header}"
        )
    shape = struct.unpack_from(f">{rank}I", data, 4)
    expected = header + math.prod(shape)
    if len(data) != expected:
        raise VaelabError(
            f"{name}: wrong length: {len(data)} bytes, the header's shape {shape} needs {expected}"
        )
    return np.frombuffer(data, dtype=np.uint8, offset=header).reshape(shape).copy()
