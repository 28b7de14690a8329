"""Images that are opened one by one when they are asked for, checked, and turned into RGB.

A grey image is repeated in three channels. Every other mode is refused: what becomes of a palette,
of transparency or of printing colours is a choice that a reader should not make in silence.
"""

from __future__ import annotations

import struct
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from rankwise.core.errors import DataError

_MODES = ("L", "RGB")
# Pillow knows more, of which some start other programs (EPS) or name other files.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
SMALLEST, LARGEST = 8, 8192
# What Pillow raises on broken files, besides OSError for most of them.
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)


class Images(Protocol):
    """A sequence of RGB images."""

    def __len__(self) -> int: ...
    def __getitem__(self, row: int, /) -> Image.Image: ...


@dataclass(frozen=True)
class Part:
    """Images with their labels, int64 of shape (rows,), and where they come from."""

    images: Images
    labels: Tensor
    source: str

    def take(self, index: Sequence[int]) -> Part:
        """Return some of the rows, in the order of ``index``."""
        source = self.source
        if len(index) < len(self.images):
            source = f"{len(index)} of the {len(self.images)} images of {source}"
        return Part(Chosen(self.images, tuple(index)), self.labels[list(index)], source)

    def joined(self, other: Part) -> Part:
        """Return the rows of both, these first."""
        return Part(
            Joined(self.images, other.images),
            torch.cat([self.labels, other.labels]),
            f"{self.source} and {other.source}",
        )


@dataclass(frozen=True)
class Joined:
    """The images of ``first``, then those of ``second``."""

    first: Images
    second: Images

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    def __getitem__(self, row: int) -> Image.Image:
        beyond = row - len(self.first)
        return self.first[row] if beyond < 0 else self.second[beyond]


@dataclass(frozen=True)
class Chosen:
    """Some of ``images``."""

    images: Images
    index: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, row: int) -> Image.Image:
        return self.images[self.index[row]]


@dataclass(frozen=True)
class FileImages:
    """Image files of one folder."""

    files: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, row: int) -> Image.Image:
        return decoded(lambda: Image.open(self.files[row], formats=FORMATS), str(self.files[row]))


@dataclass(frozen=True)
class ArrayImages:
    """An array of bytes, (rows, height, width) or (rows, height, width, 3)."""

    array: np.ndarray[Any, np.dtype[np.uint8]]
    place: str

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, row: int) -> Image.Image:
        return decoded(lambda: Image.fromarray(self.array[row]), f"{self.place}, image {row}")


def decoded(open_image: Callable[[], Image.Image], place: str) -> Image.Image:
    """Return the image that ``open_image`` opens, read to its end, as RGB.

    Raises:
        DataError: It is broken or cut off, too small or too large, or has another mode.
    """
    try:
        with warnings.catch_warnings():
            # Its size is checked below.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            opened = open_image()
        with opened as image:
            _check(image, place)
            return image.convert("RGB")
    except DataError:
        raise
    except _BROKEN as error:
        raise DataError(
            f"{place} cannot be read ({type(error).__name__}: {error}): fetch it again"
        ) from error


def _check(image: Image.Image, place: str) -> None:
    if not all(SMALLEST <= side <= LARGEST for side in image.size):
        raise DataError(
            f"{place} must have sides of {SMALLEST} to {LARGEST} pixels, got "
            f"{image.width} × {image.height}"
        )
    if image.mode not in _MODES:
        raise DataError(
            f"{place} must have mode {' or '.join(_MODES)}, got {image.mode}: convert it"
        )
