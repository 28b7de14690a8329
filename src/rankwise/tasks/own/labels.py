"""What a column of labels is: classes with names, or numbers of a regression."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rankwise.core.errors import DataError, nearest_names

Target = Literal["classes", "regression"]
# More whole numbers than these are taken for a scale.
MOST_CLASSES = 50
_SHOWN = 5


@dataclass(frozen=True)
class Labels:
    """The labels of the splits as numbers: of a class in ``classes``, or of a regression.

    Attributes:
        values: By split, one a row.
        classes: The names of the classes; None for a regression.
    """

    values: dict[str, list[float]]
    classes: tuple[str, ...] | None

    @property
    def target(self) -> Target:
        return "regression" if self.classes is None else "classes"


def read_labels(
    columns: Mapping[str, Sequence[Any]],
    *,
    target: Target | None,
    names: Sequence[str] | None,
    place: str,
) -> Labels:
    """Return the labels of the splits, by name; None as ``target`` lets the values decide.

    Texts, truth values and few whole numbers are classes, other numbers a regression.

    Args:
        columns: By split, the values as they were read.
        target: What the labels are.
        names: Of the classes, where the data set numbers and names them.
        place: What errors call the column.

    Raises:
        DataError: A row has no label, all are alike, or a class of another split lacks in training.
    """
    for split, values in columns.items():
        _check_filled(values, names, place=f"{place}, {split}")
    if names is not None and target != "regression":
        found = {
            split: [str(names[value]) for value in values] for split, values in columns.items()
        }
        return _classes(found, [name for name in names if name in found["train"]], place)
    numbers = {split: _numbers(values) for split, values in columns.items()}
    if target == "regression" or (target is None and _is_scale(numbers["train"])):
        return _regression(numbers, columns, place)
    texts = {split: [_name(value) for value in values] for split, values in columns.items()}
    known = set(texts["train"])
    of_numbers = numbers["train"] is not None
    return _classes(texts, sorted(known, key=float) if of_numbers else sorted(known), place)


def _check_filled(values: Sequence[Any], names: Sequence[str] | None, *, place: str) -> None:
    empty = [row for row, value in enumerate(values, start=1) if _is_empty(value, names)]
    if empty:
        rows = ", ".join(map(str, empty[:_SHOWN])) + (", …" if len(empty) > _SHOWN else "")
        raise DataError(
            f"{place}: {len(empty)} of {len(values)} rows have no label (row {rows}): "
            "fill them or drop the rows"
        )


def _is_empty(value: Any, names: Sequence[str] | None) -> bool:
    if isinstance(value, str):
        return not value.strip()
    # The Hub numbers unknown labels with -1.
    is_unknown = names is not None and value is not None and value < 0
    return value is None or is_unknown or (isinstance(value, float) and math.isnan(value))


def _numbers(values: Iterable[Any]) -> list[float] | None:
    """Return the values as numbers, or None if one of them is none."""
    numbers = []
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        numbers.append(float(value))
    return numbers


def _is_scale(numbers: list[float] | None) -> bool:
    if numbers is None:
        return False
    return any(number % 1 for number in numbers) or len(set(numbers)) > MOST_CLASSES


def _regression(
    numbers: Mapping[str, list[float] | None], columns: Mapping[str, Sequence[Any]], place: str
) -> Labels:
    found: dict[str, list[float]] = {}
    for split, values in numbers.items():
        if values is None:
            odd = next(each for each in columns[split] if _numbers([each]) is None)
            raise DataError(f"{place}, {split}: a regression needs numbers, got {odd!r}")
        if not all(map(math.isfinite, values)):
            raise DataError(f"{place}, {split}: a regression needs finite numbers, got an infinity")
        found[split] = values
    if len(set(found["train"])) == 1:
        raise DataError(_constant(place, found["train"][0]))
    return Labels(found, None)


def _classes(texts: Mapping[str, list[str]], classes: Sequence[str], place: str) -> Labels:
    if len(classes) < 2:
        raise DataError(_constant(place, classes[0]))
    number = {name: index for index, name in enumerate(classes)}
    for split, values in texts.items():
        for name in values:
            if name not in number:
                raise DataError(
                    f"{place}: {split} has the class {name!r}, which training lacks; "
                    f"{nearest_names(name, classes)}"
                )
    values = {split: [number[name] for name in found] for split, found in texts.items()}
    return Labels(
        {split: [float(each) for each in found] for split, found in values.items()}, tuple(classes)
    )


def _constant(place: str, value: Any) -> str:
    return f"{place}: all rows have the same label, {value!r}: there is nothing to learn"


def _name(value: Any) -> str:
    # A column with whole numbers is read as fractions where a cell is empty.
    return (
        str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()
    )
