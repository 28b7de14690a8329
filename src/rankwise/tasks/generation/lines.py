"""Local files of one JSON object a line, plain or packed by gzip, below the data root."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from rankwise.core.errors import DataError

SUFFIXES = (".jsonl", ".jsonl.gz")


class Line(NamedTuple):
    """One object, and where it stands, for messages."""

    content: dict[str, Any]
    place: str

    def text(self, column: str, *, may_be_empty: bool = False) -> str:
        """Return the text in ``column``.

        Raises:
            DataError: There is no such column, it holds no text, or nothing but blanks.
        """
        value = self.content.get(column)
        if not isinstance(value, str):
            columns = ", ".join(self.content) or "none"
            raise DataError(
                f"{self.place}: expected text in {column!r}, got {value!r} (columns: {columns})"
            )
        if not value.strip() and not may_be_empty:
            raise DataError(f"{self.place}: {column!r} is empty: fill it or drop the row")
        return value

    def texts(self, column: str) -> list[str]:
        """Return the texts in ``column``, at least one.

        Raises:
            DataError: It is no list of texts.
        """
        value = self.content.get(column)
        if not isinstance(value, list) or not value or not all(isinstance(t, str) for t in value):
            raise DataError(f"{self.place}: expected a list of texts in {column!r}, got {value!r}")
        return value


def find_lines(root: Path, stem: str) -> Path:
    """Return the file ``stem``, given without its ending, below ``root``.

    Raises:
        DataError: There is none.
    """
    for suffix in SUFFIXES:
        if (path := root / (stem + suffix)).is_file():
            return path
    folder = (root / stem).parent
    there = sorted(path.name for path in folder.glob("*.jsonl*"))
    raise DataError(
        f"no {Path(stem).name}{' or '.join(SUFFIXES)} in {folder}, found "
        f"{', '.join(there) or 'no such file'}"
    )


def read_lines(path: Path, *, name: str | None = None) -> list[Line]:
    """Return the objects of a file in order; empty lines are passed over.

    Raises:
        DataError: It cannot be read or unpacked, holds no rows, or a line is no JSON object.
    """
    lines = list(_lines(path, name or path.name))
    if not lines:
        raise DataError(f"{path} holds no rows: fetch it again")
    return lines


def _lines(path: Path, name: str) -> Iterator[Line]:
    number = 0
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    place = f"{name}, line {number}"
                    yield Line(_object(line.decode("utf-8"), place), place)
    except UnicodeDecodeError as error:
        raise DataError(f"{path}, line {number} is no UTF-8 ({error}): convert it") from None
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{path} cannot be read after line {number} ({error}): fetch it again"
        ) from None


def _object(text: str, place: str) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place} is not valid JSON ({error}): repair or drop it") from None
    if not isinstance(content, dict):
        raise DataError(f"{place} must be a JSON object, got {type(content).__name__}")
    return content
