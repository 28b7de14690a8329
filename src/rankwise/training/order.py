"""The order of the training rows: a pure function of the seed and the epoch.

All methods of one seed see the same rows in the same order, and a resumed run sees the rest of its
epoch.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import Sampler

from rankwise.core.seeds import derive_seed


def epoch_order(size: int, *, seed: int, epoch: int) -> Tensor:
    """Return a permutation of ``range(size)``, int64 of shape (size,)."""
    generator = torch.Generator().manual_seed(derive_seed(seed, "order", epoch))
    return torch.randperm(size, generator=generator)


class EpochOrder(Sampler[int]):
    """The same order as a sampler; a ``Trainer`` tells it the epoch through ``set_epoch``."""

    def __init__(self, size: int, *, seed: int) -> None:
        self.size = size
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order the next iteration gives."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[int]:
        return iter(epoch_order(self.size, seed=self.seed, epoch=self.epoch).tolist())
