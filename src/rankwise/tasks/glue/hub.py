"""GLUE from the Hub's data set nyu-mll/glue, by the ``datasets`` package and its cache.

Two training rows of QQP have no second question (huggingface/datasets, issue 277). They cannot be
repaired by a reader, so training rows without text are left out here, and the source of the rows
says how many. In validation and test, where each row counts in a score, they are an error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rankwise.core.errors import DataError
from rankwise.tasks.glue.definitions import HIGHEST_SCORE, LOWEST_SCORE, Definition, Split
from rankwise.tasks.glue.examples import NO_TEST_LABELS, Example, Part
from rankwise.tasks.hub import fetch_split

if TYPE_CHECKING:
    from datasets import Dataset

DATASET = "nyu-mll/glue"
UNLABELLED = -1


def read_hub(definition: Definition, split: Split) -> Part:
    """Return the rows of ``split`` in the Hub's order; they are fetched once and cached.

    Raises:
        DataError: The Hub cannot be reached, its columns or classes are not those expected, rows
            have no labels, or rows of validation or test have no text.
    """
    place = f"{DATASET}, {definition.hub}, {dict(definition.hub_splits)[split]}"
    name = dict(definition.hub_splits)[split]
    rows = fetch_split(DATASET, name, configuration=definition.hub, place=place)
    columns = _columns(definition, rows, place)
    texts = list(zip(*(columns[name] for name in definition.texts), strict=True))
    _check_labels(definition, columns["label"], place, split)
    kept = [row for row, parts in enumerate(texts) if all((part or "").strip() for part in parts)]
    if len(kept) < len(texts) and split != "train":
        row = next(row for row, kept_row in enumerate([*kept, -1]) if row != kept_row)
        raise DataError(f"{place}: row {row} has no text in {' or '.join(definition.texts)}")
    if not kept:
        raise DataError(f"{place} holds no rows")
    missing = len(texts) - len(kept)
    note = f" ({missing} rows without text left out)" if missing else ""
    examples = [Example(texts[row], columns["label"][row]) for row in kept]
    return Part(examples, f"Hub {place}{note}")


def _columns(definition: Definition, rows: Dataset, place: str) -> Mapping[str, Sequence[Any]]:
    wanted = [*definition.texts, "label"]
    if not set(wanted) <= set(rows.column_names):
        raise DataError(
            f"{place} must have the columns {', '.join(wanted)}, got {', '.join(rows.column_names)}"
        )
    names = getattr(rows.features["label"], "names", None)
    if names is not None and tuple(names) != definition.labels:
        raise DataError(
            f"{place} must have the classes {', '.join(definition.labels)}, got {', '.join(names)}"
        )
    return rows.select_columns(wanted)[:]


def _check_labels(
    definition: Definition, labels: Sequence[int | float], place: str, split: Split
) -> None:
    for row, label in enumerate(labels):
        if label == UNLABELLED:
            advice = NO_TEST_LABELS if split == "test" else "take another split"
            raise DataError(f"{place} is not labelled (row {row} has {label}): {advice}")
        if definition.kind == "classification" and label not in range(len(definition.labels)):
            raise DataError(
                f"{place}: the label of row {row} must be from 0 to {len(definition.labels) - 1}, "
                f"got {label}"
            )
        if definition.kind == "regression" and not LOWEST_SCORE <= label <= HIGHEST_SCORE:
            raise DataError(
                f"{place}: the score of row {row} must be from {LOWEST_SCORE:g} to "
                f"{HIGHEST_SCORE:g}, got {label}"
            )
