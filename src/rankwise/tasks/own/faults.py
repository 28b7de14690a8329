"""What is wrong with a file of text, and in which line: said before a library stumbles over it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from rankwise.core.errors import DataError
from rankwise.tasks.packed import PACKING_ERRORS, open_packed

_SHOWN = 60  # characters of a line


def check_file(file: Path, kind: str) -> None:
    """Refuse a file that is not UTF-8, or JSON that is none; ``kind`` is that of ``source``.

    Raises:
        DataError: It names the file, the line and what stands there.
    """
    if kind == "parquet":
        return
    try:
        if kind == "json":
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
        if not isinstance(value, dict):
            raise DataError(f"{file}, line {number} must be a JSON object, got {_shown(line)}")


def _check_array(file: Path, text: str) -> None:
    try:
        rows = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{file}, line {error.lineno} is no JSON ({error.msg})") from None
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
