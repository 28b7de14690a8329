"""GLUE from local files: ``glue/<folder>/<file>.tsv`` or ``.tsv.gz`` below the data root.

The files are GLUE's own: tab-separated, without quoting, UTF-8 with or without a byte-order mark,
with a header line except for CoLA. Which files may hold a split is listed in the definition of the
task; one that holds a part only is named so in the source of the rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from rankwise.core.errors import DataError
from rankwise.tasks.glue.definitions import (
    HIGHEST_SCORE,
    LOWEST_SCORE,
    Columns,
    Definition,
    Split,
)
from rankwise.tasks.glue.examples import NO_TEST_LABELS, Example, Part
from rankwise.tasks.packed import PACKING_ERRORS, open_packed

_SUFFIXES = (".tsv", ".tsv.gz")


def has_file(definition: Definition, split: Split, root: Path) -> bool:
    """Say whether there is a file with rows of ``split``, be it a part of it."""
    return _find(definition, split, root) is not None


def read_file(definition: Definition, split: Split, root: Path) -> Part:
    """Return the rows of ``split`` below ``root``, in the order of the file.

    Raises:
        DataError: There is no file for the split, or it cannot be unpacked, is no UTF-8, has a
            wrong header, a row with another number of fields, an unknown label or no text.
    """
    found = _find(definition, split, root)
    if found is None:
        raise DataError(_missing(definition, split, root))
    file, is_partial = found
    examples = list(_examples(definition, file))
    if not examples:
        raise DataError(f"{file} holds no rows: fetch it again")
    note = " (a part of the split)" if is_partial else ""
    return Part(examples, file.relative_to(root).as_posix() + note)


class _Found(NamedTuple):
    path: Path
    is_partial: bool


def _find(definition: Definition, split: Split, root: Path) -> _Found | None:
    folder = root / "glue" / definition.folder
    for file in dict(definition.files)[split]:
        for suffix in _SUFFIXES:
            if (path := folder / (file.stem + suffix)).exists():
                return _Found(path, file.partial)
    return None


def _missing(definition: Definition, split: Split, root: Path) -> str:
    folder = root / "glue" / definition.folder
    there = sorted(path.name for path in folder.glob("*") if path.name.endswith(_SUFFIXES))
    wanted = " or ".join(file.stem for file in dict(definition.files)[split])
    message = (
        f"no {split} split of {definition.name} in {folder}: expected {wanted}, as .tsv or "
        f".tsv.gz, found {', '.join(there) or 'no such file'}. Partial splits have names of their "
        "own, such as train_subset or dev_matched_sample1000. "
    )
    if split == "test":
        return message + NO_TEST_LABELS
    return message + (
        "Name a folder that has it, or none, to read from the Hub; protocol 'held-out' cuts all "
        "splits out of one"
    )


def _examples(definition: Definition, file: Path) -> Iterator[Example]:
    lines = _lines(file)
    header = definition.header
    if header is None:
        _, header = next(lines, (1, []))
    columns = _columns(definition, file, header)
    texts, label = [header.index(name) for name in columns.texts], header.index(columns.label)
    for number, fields in lines:
        place = f"{file}, line {number}"
        if len(fields) != len(header):
            raise DataError(
                f"{place}: expected {len(header)} fields ({', '.join(header)}) between tabs, "
                f"got {len(fields)}"
            )
        for column in texts:
            if not fields[column].strip():
                raise DataError(f"{place}: no text in {header[column]}: fill it or drop the row")
        value = _label(definition, fields[label], place)
        yield Example(tuple(fields[column] for column in texts), value)


def _columns(definition: Definition, file: Path, header: Sequence[str]) -> Columns:
    for form in definition.forms:
        if {*form.texts, form.label} <= set(header):
            return form
    expected = " or ".join(", ".join((*form.texts, form.label)) for form in definition.forms)
    raise DataError(
        f"{file}: the first line must name the columns {expected}, separated by tabs, "
        f"got {', '.join(header)[:200] or 'nothing'}"
    )


def _label(definition: Definition, text: str, place: str) -> int | float:
    if definition.kind == "classification":
        if text not in definition.written:
            known = ", ".join(definition.written)
            raise DataError(f"{place}: the label must be one of {known}, got {text!r}")
        return definition.written.index(text)
    try:
        score = float(text)
    except ValueError:
        score = float("nan")
    if not LOWEST_SCORE <= score <= HIGHEST_SCORE:
        raise DataError(
            f"{place}: the score must be a number from {LOWEST_SCORE:g} to {HIGHEST_SCORE:g}, "
            f"got {text!r}"
        )
    return score


def _lines(file: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the number of each line, from 1, and its fields; one line is held at a time."""
    number = 0
    try:
        # Only a line feed ends a row: texts hold other characters that Python takes for line ends.
        with open_packed(file) as lines:
            for number, line in enumerate(lines, start=1):
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
                yield number, text.removesuffix("\n").removesuffix("\r").split("\t")
    except UnicodeDecodeError as error:
        raise DataError(f"{file}, line {number} is no UTF-8 ({error}): convert it") from None
    except PACKING_ERRORS as error:
        raise DataError(
            f"{file} cannot be read after line {number} ({error}): fetch it again"
        ) from None
