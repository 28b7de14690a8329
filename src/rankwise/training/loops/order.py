"""The order of the training rows: a pure function of the seed, the epoch and the rows' lengths.

All methods of one seed see the same rows in the same order, and a resumed run sees the rest of its
epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.utils.data import Sampler

from rankwise.core.seeds import derive_seed

# Rows are sorted by length within windows of so many batches: wide enough to save padding, narrow
# enough to leave the order to chance.
_WINDOW = 50


def epoch_order(
    size: int,
    *,
    seed: int,
    epoch: int,
    lengths: Sequence[int] | None = None,
    batch_size: int = 1,
) -> Tensor:
    """Return a permutation of ``range(size)``, int64 of shape (size,).

    With ``lengths``, one a row, consecutive runs of ``batch_size`` rows have like lengths, and
    these batches come in random order; a smaller batch stays last.
    """
    generator = torch.Generator().manual_seed(derive_seed(seed, "order", epoch))
    order = torch.randperm(size, generator=generator)
    if lengths is None:
        return order
    tokens = torch.tensor(lengths)
    windows = order.split(_WINDOW * batch_size)
    # The shortest rows come last in a window, so that a smaller last batch is of no longer rows.
    ordered = [window[tokens[window].argsort(descending=True, stable=True)] for window in windows]
    batches = list(torch.cat(ordered).split(batch_size))
    rest = [batches.pop()] if len(batches[-1]) < batch_size else []
    shuffled = [batches[i] for i in torch.randperm(len(batches), generator=generator)]
    return torch.cat(shuffled + rest)


class EpochOrder(Sampler[int]):
    """The order as a sampler; a ``Trainer`` tells it the epoch through ``set_epoch``.

    Args:
        order: Returns the order of an epoch, such as :func:`epoch_order` with its seed.
        size: The number of rows in each.
    """

    def __init__(self, order: Callable[[int], Tensor], *, size: int) -> None:
        self._order = order
        self._size = size
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order the next iteration gives."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[int]:
        return iter(self._order(self.epoch).tolist())
