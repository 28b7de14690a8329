"""What the classes of words are worth: word by word, and as entities.

A row's prediction holds the class of each of its words, and so does its label. Entities are read as
CoNLL's evaluation does (Tjong Kim Sang & Buchholz 2000): one begins at ``B-TYPE``, or at an
``I-TYPE`` that does not go on with its type. It counts as found if its type and both ends are
right.
seqeval, which computes the same, has had no release since 2020 and none that is built.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple

from sklearn.metrics import f1_score

from rankwise.core.errors import DataError
from rankwise.evaluation.text_metrics import check_rows

Words = Sequence[Sequence[str]]


class Entity(NamedTuple):
    """Its type, its first word, and the word behind its last."""

    kind: str
    start: int
    end: int


def word_accuracy(predictions: Words, labels: Words) -> float:
    """Return the share of words whose class is right.

    >>> word_accuracy([("O", "B-X")], [("O", "O")])
    0.5

    Raises:
        DataError: There are no words, or not as many predictions as labels.
    """
    said, wanted = _flat(predictions, labels)
    return sum(one == other for one, other in zip(said, wanted)) / len(wanted)


def word_macro_f1(predictions: Words, labels: Words) -> float:
    """Return the mean over the classes that occur of their F1, word by word.

    Raises:
        DataError: There are no words, or not as many predictions as labels.
    """
    said, wanted = _flat(predictions, labels)
    options: Any = {"labels": sorted(set(wanted)), "average": "macro", "zero_division": 0.0}
    return float(f1_score(wanted, said, **options))


def entity_f1(predictions: Words, labels: Words) -> float:
    """Return 2 · right / (found + there), over the entities of all rows; 0 if there are none.

    >>> entity_f1([("B-X", "I-X", "O")], [("B-X", "O", "B-Y")])
    0.0

    Raises:
        DataError: There are no words, or not as many predictions as labels.
    """
    _flat(predictions, labels)
    right = found = there = 0
    for said, wanted in zip(predictions, labels):
        one, other = set(entities(said)), set(entities(wanted))
        right, found, there = right + len(one & other), found + len(one), there + len(other)
    return 2 * right / (found + there) if found + there else 0.0


def entities(classes: Sequence[str]) -> list[Entity]:
    """Return the entities in the classes of a row's words.

    >>> entities(["B-X", "I-X", "O", "I-Y"])
    [Entity(kind='X', start=0, end=2), Entity(kind='Y', start=3, end=4)]
    """
    found: list[Entity] = []
    kind, start = None, 0
    for position, name in enumerate((*classes, "O")):
        prefix, _, own = name.partition("-")
        if prefix == "I" and own == kind:
            continue
        if kind is not None:
            found.append(Entity(kind, start, position))
        kind, start = (own if prefix in ("B", "I") else None), position
    return found


def _flat(predictions: Words, labels: Words) -> tuple[list[str], list[str]]:
    check_rows(predictions, labels)
    said, wanted = list(chain.from_iterable(predictions)), list(chain.from_iterable(labels))
    if not wanted or list(map(len, predictions)) != list(map(len, labels)):
        raise DataError(
            "a metric needs one class for each of at least one word, "
            f"got {len(said)} in {len(predictions)} rows for {len(wanted)} in {len(labels)}"
        )
    return said, wanted
