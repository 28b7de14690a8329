"""The images and digits of MNIST: four IDX files below the data root, or the Hub's ylecun/mnist."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from rankwise.core.errors import DataError
from rankwise.tasks.hub import fetch_split
from rankwise.tasks.idx import read_idx

DATASET, SIDE = "ylecun/mnist", 28
_FILES = {"train": "train", "test": "t10k"}


class Images(NamedTuple):
    """Pixels, uint8 of shape (rows, 28, 28), digits, int64 of shape (rows,), and their source."""

    pixels: Tensor
    digits: Tensor
    source: str


def read_mnist(root: Path | None, split: Literal["train", "test"]) -> Images:
    """Return a split from ``vision/mnist`` below ``root``, or from the Hub where it is None.

    Raises:
        DataError: A file is missing or broken, the Hub cannot be reached, or an image or label is
            none of MNIST's.
    """
    return _from_hub(split) if root is None else _from_files(root, split)


def _from_files(root: Path, split: str) -> Images:
    folder, name = root / "vision" / "mnist", _FILES[split]
    images, images_file = _array(folder, f"{name}-images-idx3-ubyte")
    labels, labels_file = _array(folder, f"{name}-labels-idx1-ubyte")
    if images.shape[1:] != (SIDE, SIDE):
        raise DataError(f"{images_file} must hold images of 28 × 28, got {tuple(images.shape)}")
    if labels.shape != images.shape[:1]:
        raise DataError(
            f"{labels_file} must hold one label for each of {len(images)} images, "
            f"got {tuple(labels.shape)}"
        )
    _check_digits(labels, str(labels_file))
    return Images(images, labels.long(), images_file.relative_to(root).as_posix())


def _from_hub(split: str) -> Images:
    place = f"{DATASET}, {split}"
    rows = fetch_split(DATASET, split, place=place)
    if not {"image", "label"} <= set(rows.column_names):
        raise DataError(
            f"{place} must have the columns image and label, got {', '.join(rows.column_names)}"
        )
    if not len(rows):
        raise DataError(f"{place} holds no rows")
    digits = torch.tensor(rows["label"][:], dtype=torch.int64)
    _check_digits(digits, place)
    pixels = [_pixels(image, f"{place}, image {row}") for row, image in enumerate(rows["image"])]
    return Images(torch.from_numpy(np.stack(pixels)), digits, f"Hub {place}")


def _pixels(image: Any, place: str) -> np.ndarray[Any, Any]:
    if image.mode != "L" or image.size != (SIDE, SIDE):
        raise DataError(
            f"{place} must be grey (L) and of 28 × 28 pixels, got {image.mode} and "
            f"{image.width} × {image.height}"
        )
    return np.asarray(image)


def _array(folder: Path, name: str) -> tuple[Tensor, Path]:
    file = folder / name if (folder / name).exists() else folder / f"{name}.gz"
    return read_idx(file), file


def _check_digits(digits: Tensor, place: str) -> None:
    if (wrong := (digits < 0) | (digits > 9)).any():
        row = int(wrong.nonzero()[0])
        raise DataError(f"{place}: label {int(digits[row])} of row {row} is no digit")
