"""The protocol of VTAB-1K: 1,000 training images, of which 800 and 200 serve for choices.

``tuning`` trains on 800 and validates on 200. ``final`` trains on all 1,000 with what was chosen;
its validation rows are trained on too, so that nothing may be chosen by them. Test is the whole
test split in both.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

import torch

from rankwise.core.errors import DataError
from rankwise.core.seeds import derive_seed
from rankwise.tasks.vtab.definitions import TRAINING_ROWS, VALIDATION_SHARE, Definition
from rankwise.tasks.vtab.files import read_folder, split_folder
from rankwise.tasks.vtab.hub import read_hub
from rankwise.tasks.vtab.images import Part

Protocol = Literal["tuning", "final"]


class Parts(NamedTuple):
    """The three splits."""

    train: Part
    validation: Part
    test: Part


def read_vtab(
    definition: Definition, *, root: Path | None, protocol: Protocol, split_seed: int
) -> Parts:
    """Return the splits of a task: local where ``root`` names a folder, else from the Hub.

    A folder ``validation`` beside ``train`` is taken as the two parts of the training images.
    Otherwise ``split_seed`` draws 1,000 of the training images, or all if there are fewer, and of
    these a fifth for validation.

    Raises:
        DataError: A split is missing or broken, or has too few rows to be cut.
    """
    test = _read(definition, "test", root)
    if root is not None and split_folder(definition, "validation", root).is_dir():
        train = _read(definition, "train", root)
        validation = _read(definition, "validation", root)
        return Parts(train.joined(validation) if protocol == "final" else train, validation, test)
    whole = _read(definition, "train", root)
    chosen, validation = _cut(len(whole.images), split_seed, place=whole.source)
    rows = chosen + validation if protocol == "final" else chosen
    return Parts(whole.take(rows), whole.take(validation), test)


def _read(definition: Definition, split: str, root: Path | None) -> Part:
    if root is None:
        return read_hub(definition, split)
    return read_folder(definition, split, root)


def _cut(available: int, seed: int, *, place: str) -> tuple[list[int], list[int]]:
    """Draw training rows, and return the four fifths to train on and the fifth to validate on."""
    if available < VALIDATION_SHARE:
        raise DataError(
            f"{place} must have at least {VALIDATION_SHARE} images to be cut, got {available}"
        )
    generator = torch.Generator().manual_seed(derive_seed(seed, "vtab-split"))
    order = torch.randperm(available, generator=generator)[:TRAINING_ROWS].tolist()
    kept = len(order) - len(order) // VALIDATION_SHARE
    return order[:kept], order[kept:]
