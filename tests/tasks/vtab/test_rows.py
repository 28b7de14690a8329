"""Images as the model reads them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from rankwise.core.errors import DataError
from rankwise.tasks.vtab.images import ArrayImages, Part
from rankwise.tasks.vtab.rows import ImageRows, Pixels
from tests.tasks.vtab.vtab_folders import picture

PROCESSORS = [
    ViTImageProcessorPil(size={"height": 32, "width": 32}),
    # Resizes the shorter side, crops, and has a mean of its own for each channel.
    CLIPImageProcessorPil(size={"shortest_edge": 40}, crop_size={"height": 32, "width": 32}),
]


@pytest.fixture
def part():
    images = np.stack([picture(row % 4, seed=row, side=24) for row in range(6)])
    return Part(ArrayImages(images, "here"), torch.arange(6), "here")


@pytest.mark.parametrize("processor", PROCESSORS)
@pytest.mark.parametrize("is_held", [True, False])
def test_rows_are_what_the_processor_makes_of_the_images(part, processor, is_held):
    rows = ImageRows(part, Pixels(processor))
    rows = rows.hold() if is_held else rows
    expected = processor([part.images[row] for row in (4, 1)], return_tensors="pt")["pixel_values"]
    batch = rows.take(torch.tensor([4, 1]))
    assert batch["labels"].tolist() == [4, 1]
    assert batch["pixel_values"].dtype == torch.float32
    torch.testing.assert_close(batch["pixel_values"], expected.float())


def test_a_slice_is_a_batch_too(part):
    rows = ImageRows(part, Pixels(PROCESSORS[0]))
    sliced, named = rows.take(slice(1, 4)), rows.take(torch.tensor([1, 2, 3]))
    assert all(torch.equal(sliced[name], named[name]) for name in named)


@pytest.mark.parametrize("way", ["hold", "check"])
def test_a_broken_image_shows_before_any_row_is_taken(way):
    part = Part(ArrayImages(np.zeros((3, 4, 9), np.uint8), "here"), torch.arange(3), "here")
    with pytest.raises(DataError, match="here, image 0 must have sides"):
        getattr(ImageRows(part, Pixels(PROCESSORS[0])), way)()
