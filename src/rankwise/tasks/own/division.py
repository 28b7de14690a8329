"""The three splits of the user's rows: those that are given, the others cut out of training.

A cut is drawn by a seed and keeps the shares of the classes. Rows with the same input stay
together, so a cut row is never also a training row. Where splits are given the same rows may stand
in two of them: they are counted, and refused above a share, because a score on them is memory.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np

from rankwise.core.errors import DataError
from rankwise.core.seeds import derive_seed
from rankwise.tasks.duplicates import DUPLICATES

Row = TypeVar("Row")
Group = list[int]
HELD_OUT = ("validation", "test")
_SEEDS = 2**32


@dataclass(frozen=True)
class Cut:
    """How rows are held out.

    Attributes:
        held_out: The share of the rows that each split gets which is not given.
        seed: Of the draw.
        max_duplicates: The greatest share of a given split that may stand in training too.
        rows: Training rows that are kept, drawn by the seed; None: all.
    """

    held_out: float = 0.1
    seed: int = 0
    max_duplicates: float = 0.05
    rows: int | None = None


@dataclass(frozen=True)
class Divided(Generic[Row]):
    """The rows of train, validation and test, and what a record should say of them."""

    rows: dict[str, list[Row]]
    facts: dict[str, dict[str, Any]]


def divide(
    given: Mapping[str, Sequence[Row]],
    cut: Cut,
    *,
    key: Callable[[Row], Hashable],
    stratum: Callable[[Row], Hashable] | None = None,
    place: str,
) -> Divided[Row]:
    """Complete ``given``, which has ``train`` at least, to three splits.

    Args:
        given: The splits that there are.
        cut: How the others are made.
        key: What makes two rows the same to a model.
        stratum: The class of a row, whose shares are kept; None: there are none.
        place: What errors call the data.

    Raises:
        DataError: There are too few rows, or too many of a given split stand in training.
    """
    missing = [split for split in HELD_OUT if split not in given]
    train = list(given["train"])
    parts = _cut(train, missing, cut, key=key, stratum=stratum, place=place) if missing else {}
    rows = {split: [train[row] for row in index] for split, index in parts.items()}
    rows = {"train": train} | {split: list(each) for split, each in given.items()} | rows
    facts: dict[str, dict[str, Any]] = {}
    if missing:
        groups = {key(row) for row in train}
        facts["train"] = {"repeated": len(train) - len(groups)}
    known = {key(row) for row in rows["train"]}
    for split in HELD_OUT:
        facts[split] = _checked_duplicates(rows[split], known, cut, key=key, split=split)
        facts[split]["cut"] = split in missing
    if cut.rows is not None:
        rows["train"] = _some(rows["train"], cut, place)
    return Divided(
        {split: rows[split] for split in ("train", *HELD_OUT)},
        {split: {"rows": len(rows[split]), **facts.get(split, {})} for split in rows},
    )


def _cut(
    rows: list[Row],
    missing: Sequence[str],
    cut: Cut,
    *,
    key: Callable[[Row], Hashable],
    stratum: Callable[[Row], Hashable] | None,
    place: str,
) -> dict[str, list[int]]:
    """Return the indices of the rows of each part, in their order: those missing, and train."""
    groups: dict[Hashable, Group] = {}
    for number, row in enumerate(rows):
        groups.setdefault(key(row), []).append(number)
    strata: dict[Hashable, list[Group]] = {}
    for group in groups.values():
        strata.setdefault(stratum(rows[group[0]]) if stratum else None, []).append(group)
    parts: dict[str, list[int]] = {split: [] for split in (*missing, "train")}
    for name in sorted(strata, key=str):
        _check_size(name, strata[name], parts=len(parts), place=place)
        for split, index in _dealt(strata[name], missing, cut, name).items():
            parts[split] += index
    return {split: sorted(index) for split, index in parts.items()}


def _dealt(
    groups: list[Group], missing: Sequence[str], cut: Cut, name: Hashable
) -> dict[str, list[int]]:
    """Deal the groups of one class to the parts, each of at least one group."""
    seed = derive_seed(cut.seed, "own-data", str(name)) % _SEEDS
    order = np.random.RandomState(seed).permutation(len(groups)).tolist()
    wanted = max(1, round(cut.held_out * sum(map(len, groups))))
    parts: dict[str, list[int]] = {}
    for left, split in reversed(list(enumerate(missing, start=1))):
        index = parts[split] = []
        while not index or (len(index) < wanted and len(order) > left):
            index += groups[order.pop()]
    parts["train"] = [row for group in order for row in groups[group]]
    return parts


def _check_size(name: Hashable, groups: list[Group], *, parts: int, place: str) -> None:
    if len(groups) >= parts:
        return
    rows = sum(map(len, groups))
    count = f"{rows} row{'s' if rows > 1 else ''}"
    same = f" ({len(groups)} different)" if len(groups) < rows else ""
    whose = "" if name is None else f" of class {name!r}"
    advice = "" if name is None else "drop the class or join it with another, or "
    raise DataError(
        f"{place} has {count}{whose}{same}, and training, validation and test need one each: "
        f"{advice}name files by --task.validation and --task.test"
    )


def _checked_duplicates(
    rows: Sequence[Row],
    known: set[Hashable],
    cut: Cut,
    *,
    key: Callable[[Row], Hashable],
    split: str,
) -> dict[str, Any]:
    count = sum(key(row) in known for row in rows)
    if count > cut.max_duplicates * len(rows):
        raise DataError(
            f"{count} of the {len(rows)} rows of {split} stand in training too, more than "
            f"{cut.max_duplicates:.0%}: drop them from training, or allow them by "
            f"--task.max_duplicates {count / len(rows):.2g}"
        )
    return {DUPLICATES: count}


def _some(rows: list[Row], cut: Cut, place: str) -> list[Row]:
    wanted = cut.rows or 0
    if wanted > len(rows):
        raise DataError(
            f"task.rows must be at most {len(rows)}, the training rows of {place}, got {wanted}"
        )
    seed = derive_seed(cut.seed, "own-data-rows") % _SEEDS
    order = np.random.RandomState(seed).permutation(len(rows)).tolist()
    return [rows[row] for row in sorted(order[:wanted])]
