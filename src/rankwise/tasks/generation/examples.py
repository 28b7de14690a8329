"""Local files of JSON objects below the data root: one a line, or in one array; plain or gzipped.

``.jsonl`` is how this project keeps data, ``.json`` how LLM-Adapters, Alpaca and AlpacaEval publish
theirs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

from rankwise.core.errors import DataError
from rankwise.tasks.packed import PACKING_ERRORS, open_packed

SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".json.gz")


class Example(NamedTuple):
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


def find_file(root: Path, stems: str | Sequence[str]) -> Path:
    """Return the first file below ``root`` that exists of ``stems``, names without their endings.

    Raises:
        DataError: There is none.
    """
    stems = (stems,) if isinstance(stems, str) else stems
    for stem in stems:
        for suffix in SUFFIXES:
            if (path := root / (stem + suffix)).is_file():
                return path
    folder = (root / stems[0]).parent
    there = sorted(path.name for path in folder.glob("*.json*"))
    raise DataError(
        f"no {', '.join(stems)} ({', '.join(SUFFIXES)}) below {root}; {folder} holds "
        f"{', '.join(there) or 'no such file'}"
    )


def read_examples(path: Path, *, name: str | None = None) -> list[Example]:
    """Return the objects of a file in order; empty lines are passed over.

    Raises:
        DataError: It cannot be read or unpacked, holds no rows, or a row is no JSON object.
    """
    name = name or path.name
    is_array = path.name.removesuffix(".gz").endswith(".json")
    read = _elements if is_array else _lines
    try:
        with open_packed(path) as file:
            examples = list(read(file, name))
    except PACKING_ERRORS as error:
        raise DataError(f"{path} cannot be read ({error}): fetch it again") from None
    if not examples:
        raise DataError(f"{path} holds no rows: fetch it again")
    return examples


def _lines(file: Iterable[bytes], name: str) -> Iterator[Example]:
    for number, line in enumerate(file, start=1):
        if line.strip():
            place = f"{name}, line {number}"
            yield _example(_parse(line, place), place)


def _elements(file: IO[bytes], name: str) -> Iterator[Example]:
    """Read an array; also one object a line, which some publish under that ending."""
    content = file.read()
    if not content.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"["):
        yield from _lines(content.splitlines(), name)
        return
    for number, element in enumerate(_parse(content, name), start=1):
        place = f"{name}, row {number}"
        yield _example(element, place)


def _parse(content: bytes, place: str) -> Any:
    try:
        return json.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise DataError(f"{place} is no UTF-8 ({error}): convert it") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place} is not valid JSON ({error}): repair or drop it") from None


def _example(content: Any, place: str) -> Example:
    if not isinstance(content, dict):
        raise DataError(f"{place} must be a JSON object, got {type(content).__name__}")
    return Example(content, place)
