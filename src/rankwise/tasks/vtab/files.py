"""VTAB from local folders: ``vision/<task>/<split>/`` below the data root.

A folder holds either image files and ``labels.csv`` (a header ``file,label``, then one row a file),
or ``arrays.npz`` with ``images``, bytes of shape (rows, height, width) or (rows, height, width, 3),
and ``labels``. Labels are whole numbers from 0. Splits are ``train`` and ``test``, and
``validation`` where the two parts of the training images are given.
"""

from __future__ import annotations

import csv
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rankwise.core.errors import DataError
from rankwise.tasks.packed import PACKING_ERRORS, check_unpacked, most_unpacked
from rankwise.tasks.vtab.definitions import Definition
from rankwise.tasks.vtab.images import ArrayImages, FileImages, Part

LABELS, ARRAYS = "labels.csv", "arrays.npz"
# What ZIP and NumPy raise of archives and headers that are damaged, encrypted or too large.
_DAMAGED = (
    *(zipfile.BadZipFile, struct.error, SyntaxError, ValueError, TypeError, KeyError),
    *(MemoryError, OverflowError, NotImplementedError, RuntimeError),
)
_HEADER = ["file", "label"]
_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif"}


def split_folder(definition: Definition, split: str, root: Path) -> Path:
    """Return the folder of a split, which need not exist."""
    return root / "vision" / definition.name / split


def read_folder(definition: Definition, split: str, root: Path) -> Part:
    """Return the rows of ``split``, in the order of ``labels.csv`` or of the arrays.

    Images are opened when they are asked for.

    Raises:
        DataError: The folder is missing or empty, a file has no row or a row no file, a label is
            none of the classes, or the arrays do not fit together.
    """
    folder = split_folder(definition, split, root)
    if not folder.is_dir():
        raise DataError(
            f"no folder {folder}: put images and {LABELS} there, or {ARRAYS}; or name no data root "
            "to read from the Hub"
        )
    arrays = folder / ARRAYS
    part = _of_arrays(definition, arrays) if arrays.exists() else _of_files(definition, folder)
    if not len(part.images):
        raise DataError(f"{folder} holds no images")
    return Part(part.images, part.labels, folder.relative_to(root).as_posix())


def check_label(definition: Definition, label: Any, place: str) -> int:
    """Return ``label`` as the number of a class.

    Raises:
        DataError: It is none.
    """
    try:
        number = int(label)
    except (TypeError, ValueError):
        number = -1
    if not 0 <= number < definition.classes:
        raise DataError(
            f"{place}: the label must be a whole number from 0 to {definition.classes - 1} (the "
            f"{definition.classes} classes of {definition.name}), got {label!r}"
        )
    return number


def _of_files(definition: Definition, folder: Path) -> Part:
    file = folder / LABELS
    labels = _read_labels(definition, file)
    there = {each.name for each in folder.iterdir() if each.suffix.lower() in _SUFFIXES}
    if missing := sorted(there - labels.keys()):
        raise DataError(
            f"{file} has no row for {missing[0]} ({len(missing)} of {len(there)} images): add it, "
            "or take the image away"
        )
    if absent := sorted(labels.keys() - there):
        raise DataError(
            f"{file} names {absent[0]}, which is no image in the folder ({len(absent)} of "
            f"{len(labels)} rows): add it, or take the row away"
        )
    images = FileImages(tuple(folder / name for name in labels))
    return Part(images, torch.tensor(list(labels.values()), dtype=torch.int64), "")


def _read_labels(definition: Definition, file: Path) -> dict[str, int]:
    labels: dict[str, int] = {}
    try:
        with file.open(newline="", encoding="utf-8-sig") as lines:
            rows = csv.reader(lines)
            if (header := next(rows, [])) != _HEADER:
                raise DataError(f"{file} must begin with {','.join(_HEADER)}, got {header}")
            for fields in rows:
                place = f"{file}, line {rows.line_num}"
                if len(fields) != 2:
                    raise DataError(f"{place}: expected a file and a label, got {fields}")
                if fields[0] in labels:
                    raise DataError(f"{place}: {fields[0]} has a row already")
                labels[fields[0]] = check_label(definition, fields[1], place)
    except FileNotFoundError:
        raise DataError(f"no {file}: write one with the columns {','.join(_HEADER)}") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file} cannot be read ({error}): write it again") from None
    return labels


def _of_arrays(definition: Definition, file: Path) -> Part:
    try:
        with zipfile.ZipFile(file) as packed:
            unpacked = sum(each.file_size for each in packed.infolist())
            check_unpacked(file, unpacked, most=most_unpacked())
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in arrays.files}
    except (*PACKING_ERRORS, *_DAMAGED) as error:
        raise DataError(f"{file} cannot be read ({error}): write it again") from None
    if not {"images", "labels"} <= found.keys():
        raise DataError(f"{file} must hold images and labels, got {', '.join(found) or 'nothing'}")
    images, labels = found["images"], found["labels"]
    is_grey, is_colour = images.ndim == 3, images.ndim == 4 and images.shape[-1] == 3
    if images.dtype != np.uint8 or not (is_grey or is_colour):
        raise DataError(
            f"{file}: images must be bytes (uint8) of shape (rows, height, width) or (rows, "
            f"height, width, 3), got {images.dtype} of shape {images.shape}"
        )
    return Part(ArrayImages(images, str(file)), _array_labels(definition, labels, images, file), "")


def _array_labels(definition: Definition, labels: Any, images: Any, file: Path) -> Tensor:
    if labels.shape != images.shape[:1] or not np.issubdtype(labels.dtype, np.integer):
        raise DataError(
            f"{file}: labels must be one whole number for each of {len(images)} images, got "
            f"{labels.dtype} of shape {labels.shape}"
        )
    numbers = [
        check_label(definition, label, f"{file}, image {row}")
        for row, label in enumerate(labels.tolist())
    ]
    return torch.tensor(numbers, dtype=torch.int64)
