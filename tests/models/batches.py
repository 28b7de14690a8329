"""Batches for the tiny models, the same at each call."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.models.architectures import VOCABULARY

Batch = dict[str, Tensor]


def points(rows: int, seed: int = 2, dtype: torch.dtype = torch.float64) -> Batch:
    """Points in four dimensions, each of one of three classes."""
    generator = torch.Generator().manual_seed(seed)
    return {
        "x": torch.randn(rows, 4, generator=generator, dtype=torch.float64).to(dtype),
        "labels": torch.randint(3, (rows,), generator=generator),
    }


def sentences(rows: int, length: int = 6, *, has_labels: bool = False) -> Batch:
    """Token sequences of different lengths, padded on the right; padding has the label -100."""
    generator = torch.Generator().manual_seed(3)
    tokens = torch.randint(1, VOCABULARY, (rows, length), generator=generator)
    lengths = torch.randint(3, length + 1, (rows, 1), generator=generator)
    mask = torch.arange(length) < lengths
    batch = {"input_ids": tokens * mask, "attention_mask": mask.long()}
    return batch | {"labels": torch.where(mask, tokens, -100)} if has_labels else batch


def sentence_pairs(rows: int) -> Batch:
    """Token sequences for an encoder, and their beginnings for its decoder."""
    batch = sentences(rows)
    return {**batch, "decoder_input_ids": batch["input_ids"][:, :4]}


def images(rows: int, side: int = 4) -> Batch:
    """Noise of one channel."""
    generator = torch.Generator().manual_seed(4)
    return {"pixel_values": torch.randn(rows, 1, side, side, generator=generator)}


def sounds(rows: int, bins: int = 4, frames: int = 16) -> Batch:
    """Noise as a spectrogram, and the beginning of what is said."""
    generator = torch.Generator().manual_seed(5)
    features = torch.randn(rows, bins, frames, generator=generator)
    return {"input_features": features, "decoder_input_ids": sentences(rows)["input_ids"]}


def split(batch: Batch, *sizes: int) -> list[Batch]:
    """Cut one batch into batches of the given sizes."""
    columns = {name: column.split(sizes) for name, column in batch.items()}
    return [{name: parts[i] for name, parts in columns.items()} for i in range(len(sizes))]
