"""IDX, the format of the MNIST files: a small header and unsigned bytes, plain or gzipped.

Header: two zero bytes, the type (8: unsigned byte), the number of dimensions, then each
dimension as a 32-bit big-endian integer. The rows follow, and nothing after them.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path

import torch
from torch import Tensor

from rankwise.core.errors import DataError
from rankwise.tasks.packed import PACKING_ERRORS, open_packed

_UNSIGNED_BYTE = 8


def read_idx(path: Path) -> Tensor:
    """Return the array in ``path`` as a uint8 tensor of the shape that its header states.

    Raises:
        DataError: The file is missing, truncated, longer than its header says, or no IDX file of
            unsigned bytes.
    """
    content = _read_bytes(path)
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] != _UNSIGNED_BYTE:
        raise DataError(
            f"{path} is no IDX file of unsigned bytes: it begins with {content[:4].hex(' ')}, "
            "expected 00 00 08 and the number of dimensions"
        )
    start = 4 + 4 * content[3]
    if len(content) < start:
        raise DataError(f"{path} is truncated: its header has {len(content)} of {start} bytes")
    shape = struct.unpack(f">{content[3]}I", content[4:start])
    size = math.prod(shape)
    if size == 0:
        raise DataError(f"{path} holds no rows (its shape is {shape}): fetch it again")
    if len(content) - start != size:
        raise DataError(
            f"{path} must hold {' × '.join(map(str, shape))} bytes after its header, "
            f"got {len(content) - start}: fetch it again"
        )
    return torch.frombuffer(bytearray(content[start:]), dtype=torch.uint8).reshape(shape)


def _read_bytes(path: Path) -> bytes:
    try:
        with open_packed(path) as file:
            return file.read()
    except FileNotFoundError:
        raise DataError(f"no file {path}: check the folder of the data") from None
    except PACKING_ERRORS as error:
        raise DataError(f"{path} cannot be unpacked ({error}): fetch it again") from None
