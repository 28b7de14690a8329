"""From images to what the model reads, by Transformers' own image processor on Pillow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from rankwise.tasks.splits import Batch, Rows
from rankwise.tasks.vtab.images import Part


@dataclass(frozen=True)
class Pixels:
    """An image processor in two stages: bytes of the model's size, then normalised floats.

    Bytes are kept where rows are read again and again: they take a quarter of the memory. The two
    stages together are the processor.
    """

    processor: Any

    def resized(self, images: Sequence[Image.Image]) -> Tensor:
        """Return ``images`` in the size that the model reads, uint8 of shape (rows, 3, h, w)."""
        done = self.processor(
            list(images), do_rescale=False, do_normalize=False, return_tensors="pt"
        )
        return done["pixel_values"].to(torch.uint8)

    def normalised(self, pixels: Tensor) -> Tensor:
        """Return what :meth:`resized` gives as the model reads it, float32 of the same shape."""
        done = self.processor(
            list(pixels.numpy()),
            do_resize=False,
            do_center_crop=False,
            input_data_format="channels_first",
            return_tensors="pt",
        )
        return done["pixel_values"].float()


@dataclass
class ImageRows(Rows):
    """Images with labels, opened when they are taken, or held in memory once all are opened."""

    part: Part
    pixels: Pixels
    _held: Tensor | None = field(default=None, init=False, repr=False)

    def __len__(self) -> int:
        return len(self.part.images)

    def hold(self) -> ImageRows:
        """Open all images now and keep them as bytes.

        Raises:
            DataError: One of them is broken.
        """
        single = [self.pixels.resized([self.part.images[row]]) for row in range(len(self))]
        self._held = torch.cat(single)
        return self

    def check(self) -> ImageRows:
        """Open all images once and keep none.

        Raises:
            DataError: One of them is broken.
        """
        for row in range(len(self)):
            _ = self.part.images[row]
        return self

    def take(self, index: Tensor | slice) -> Batch:
        """Return the rows ``index`` as ``pixel_values`` and ``labels``."""
        if self._held is not None:
            pixels = self._held[index]
        else:
            rows = torch.arange(len(self))[index].tolist()
            pixels = self.pixels.resized([self.part.images[row] for row in rows])
        return {"pixel_values": self.pixels.normalised(pixels), "labels": self.part.labels[index]}
