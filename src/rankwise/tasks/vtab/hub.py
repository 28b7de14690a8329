"""VTAB from the Hub: CLIP_benchmark's copies.

Each has the splits ``train`` and ``test``, one column of images, whose name is their format, and
the column ``cls``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image

from rankwise.core.errors import DataError
from rankwise.tasks.hub import fetch_split
from rankwise.tasks.vtab.definitions import Definition
from rankwise.tasks.vtab.files import check_label
from rankwise.tasks.vtab.images import Part, decoded

if TYPE_CHECKING:
    from datasets import Dataset

_LABEL_COLUMNS = ("cls", "label")


@dataclass(frozen=True)
class HubImages:
    """A column of images."""

    rows: Dataset
    column: str
    place: str

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> Image.Image:
        return decoded(lambda: self.rows[row][self.column], f"{self.place}, image {row}")


def read_hub(definition: Definition, split: str) -> Part:
    """Return the rows of ``split`` in the Hub's order; they are fetched once and cached.

    Raises:
        DataError: The Hub cannot be reached, there are not the columns expected, or a label is
            none of the classes.
    """
    place = f"{definition.hub}, {split}"
    rows = fetch_split(definition.hub, split, place=place)
    image, label = _columns(rows, place)
    labels = [
        check_label(definition, each, f"{place}, image {row}")
        for row, each in enumerate(rows[label])
    ]
    if not labels:
        raise DataError(f"{place} holds no images")
    images = HubImages(rows.select_columns([image]), image, place)
    return Part(images, torch.tensor(labels, dtype=torch.int64), f"Hub {place}")


def _columns(rows: Any, place: str) -> tuple[str, str]:
    images = [name for name, kind in rows.features.items() if type(kind).__name__ == "Image"]
    labels = [name for name in _LABEL_COLUMNS if name in rows.features]
    if len(images) != 1 or not labels:
        raise DataError(
            f"{place} must have one column of images and {' or '.join(_LABEL_COLUMNS)}, got "
            f"{', '.join(rows.features)}"
        )
    return images[0], labels[0]
