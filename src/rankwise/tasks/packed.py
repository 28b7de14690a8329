"""Files that may be packed by gzip, bzip2 or xz, read up to a bound.

A packed file of some megabytes can stand for more than any memory or disk holds. What it unpacks to
is counted as it is read, and refused above a bound that the environment's RANKWISE_UNPACKED_GB
moves.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from rankwise.core.errors import DataError, SettingsError

VARIABLE = "RANKWISE_UNPACKED_GB"
DEFAULT_GB = 8.0

PACKING_ERRORS = (OSError, EOFError, zlib.error, lzma.LZMAError)
"""What unpacking raises where a file is damaged."""

_OPENERS: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
PACKED = tuple(_OPENERS)


def open_packed(path: Path) -> IO[bytes]:
    """Open ``path`` for reading bytes, unpacked if its name ends in ``.gz``, ``.bz2`` or ``.xz``.

    Raises:
        DataError: While it is read: it unpacks to more than the bound.
        OSError: It cannot be opened.
        SettingsError: The bound is no positive number.
    """
    opener = _OPENERS.get(path.suffix.lower())
    if opener is None:
        return path.open("rb")
    return io.BufferedReader(_Bounded(opener(path, "rb"), path, most_unpacked()))


def most_unpacked() -> int:
    """Return the bytes that a packed file may unpack to.

    Raises:
        SettingsError: The environment's value is no positive number.
    """
    named = os.environ.get(VARIABLE, "")
    try:
        most = float(named or DEFAULT_GB)
    except ValueError:
        most = -1.0
    if not most > 0:
        raise SettingsError(f"{VARIABLE} must be a positive number, got {named!r}")
    return int(min(most, 1e9) * 1e9)


def check_unpacked(path: Path, unpacked: int, *, most: int) -> None:
    """Refuse a file that unpacks to more than ``most`` bytes.

    Raises:
        DataError: It does.
    """
    if unpacked > most:
        raise DataError(
            f"{path} ({path.stat().st_size:,} bytes) unpacks to more than {most / 1e9:g} GB: if it "
            f"is what it should be, set {VARIABLE} to more in the environment"
        )


class _Bounded(io.RawIOBase):
    """Hands on what another stream reads, and counts it."""

    def __init__(self, stream: IO[bytes], path: Path, most: int) -> None:
        self._stream, self._path, self._most = stream, path, most
        self._read = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        content = self._stream.read(len(buffer))
        self._read += len(content)
        check_unpacked(self._path, self._read, most=self._most)
        buffer[: len(content)] = content
        return len(content)

    def close(self) -> None:
        self._stream.close()
        super().close()
