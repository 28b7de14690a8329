"""What is wrong with a file of text, and in which line: said before a library stumbles over it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from rankwise.core.errors import DataError
from rankwise.tasks.packed import (
    PACKED,
    PACKING_ERRORS,
    check_unpacked,
    most_unpacked,
    open_packed,
)

_SHOWN = 60  # characters of a line
# What Python says of JSON with integers of thousands of digits, or of thousands of levels.
_WITHOUT_END = (ValueError, RecursionError)


def check_file(file: Path, kind: str) -> None:
    """Refuse a file that is not UTF-8, JSON that is none, and what unpacks to too much.

    ``kind`` is that of ``source``.

    Raises:
        DataError: It names the file, the line and what stands there.
    """
    try:
        if kind == "parquet":
            _check_parquet(file)
        elif kind == "json":
            _check_json(file)
        else:
            for _ in _lines(file):
                pass
    except PACKING_ERRORS as error:
        raise DataError(f"{file} cannot be read ({error})") from None


def _check_json(file: Path) -> None:
    lines = _lines(file)
    first = next(lines, (1, ""))
    if first[1].lstrip().startswith("["):
        _check_array(file, first[1] + "".join(line for _, line in lines))
        return
    for number, line in (first, *lines) if first[1].strip() else lines:
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(
                f"{file}, line {number} is no JSON ({error.msg} at column {error.colno}): "
                f"{_shown(line)}"
            ) from None
        except _WITHOUT_END as error:
            raise DataError(f"{file}, line {number} cannot be read ({error})") from None
        if not isinstance(value, dict):
            raise DataError(f"{file}, line {number} must be a JSON object, got {_shown(line)}")


def _check_parquet(file: Path) -> None:
    """Refuse a file of which the parts, or the file itself, unpack to too much."""
    if file.suffix.lower() in PACKED:
        with open_packed(file) as stream:
            while stream.read(1 << 20):
                pass
        return
    # It comes with datasets, and takes its time to import.
    from pyarrow import ArrowException
    from pyarrow.parquet import read_metadata

    try:
        found = read_metadata(file)
        parts = [found.row_group(part).total_byte_size for part in range(found.num_row_groups)]
    except ArrowException as error:
        raise DataError(f"{file} cannot be read ({error})") from None
    check_unpacked(file, sum(max(each, 0) for each in parts), most=most_unpacked())


def _check_array(file: Path, text: str) -> None:
    try:
        rows = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{file}, line {error.lineno} is no JSON ({error.msg})") from None
    except _WITHOUT_END as error:
        raise DataError(f"{file} cannot be read ({error})") from None
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise DataError(f"{file}, item {number} must be a JSON object, got {_shown(str(row))}")


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines with their numbers, from 1."""
    with open_packed(file) as stream:
        for number, line in enumerate(stream, start=1):
            try:
                yield number, line.decode("utf-8")
            except UnicodeDecodeError as error:
                raise DataError(
                    f"{file}, line {number} is not UTF-8 (byte 0x{line[error.start]:02x} at "
                    f"position {error.start + 1}): save the file as UTF-8"
                ) from None


def _shown(line: str) -> str:
    line = line.strip()
    return repr(line if len(line) <= _SHOWN else f"{line[:_SHOWN]}…")
