"""Which training rows each client has: an even split, or one by a Dirichlet law over the labels.

With the law (Hsu et al. 2019, arXiv 1909.06335) each label y is dealt out by its own proportions
p_y ~ Dir(α, …, α) over the clients: a small α gives clients of few labels and of unlike size, a
large one comes near the even split.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from rankwise.core.errors import SettingsError
from rankwise.core.seeds import derive_seed
from rankwise.tasks.splits import Batch, Rows


class Share(Rows):
    """The rows that one client has, in the order of ``index``, int64 of shape (rows,)."""

    def __init__(self, rows: Rows, index: Tensor) -> None:
        self._rows = rows
        self._index = index
        if rows.lengths is not None:
            self.lengths = [rows.lengths[i] for i in index.tolist()]

    def __len__(self) -> int:
        return len(self._index)

    def take(self, index: Tensor | slice) -> Batch:
        """Return the rows ``index`` of this share as one batch."""
        return self._rows.take(self._index[index])


def split_evenly(rows: int, *, clients: int, seed: int) -> list[Tensor]:
    """Deal ``rows`` out at random, so that the sizes of two shares differ by one at most.

    Raises:
        SettingsError: There are fewer rows than clients.

    Example:
        >>> [len(share) for share in split_evenly(7, clients=3, seed=0)]
        [3, 2, 2]
    """
    _check_clients(rows, clients)
    generator = torch.Generator().manual_seed(derive_seed(seed, "clients"))
    return list(torch.randperm(rows, generator=generator).tensor_split(clients))


def split_by_label(labels: Tensor, *, clients: int, alpha: float, seed: int) -> list[Tensor]:
    """Deal rows out label by label, in proportions drawn from Dir(α); every client gets a row.

    A client that the law leaves without rows takes one from the largest share.

    Args:
        labels: Classes, integers of shape (rows,).
        clients: Number of shares.
        alpha: Concentration α > 0 of the law.
        seed: Decides the proportions and the rows.

    Raises:
        SettingsError: α is not positive, the labels are no classes, or there are fewer rows than
            clients.
    """
    _check_clients(len(labels), clients)
    if alpha <= 0:
        raise SettingsError(f"federated.alpha must be positive, got {alpha}")
    if labels.is_floating_point() or labels.ndim != 1:
        raise SettingsError(
            "federated.split 'dirichlet' needs one class a row, got labels of shape "
            f"{tuple(labels.shape)} and {labels.dtype}: use federated.split 'even'"
        )
    random = np.random.default_rng(derive_seed(seed, "clients"))
    shares: list[list[int]] = [[] for _ in range(clients)]
    for label in labels.unique().tolist():
        rows = random.permutation((labels == label).nonzero().flatten().numpy())
        proportions = random.dirichlet([alpha] * clients)
        cuts = (proportions.cumsum()[:-1] * len(rows)).round().astype(int)
        for share, part in zip(shares, np.split(rows, cuts), strict=True):
            share.extend(part.tolist())
    for share in shares:
        if not share:
            share.append(max(shares, key=len).pop())
    return [torch.tensor(sorted(share)) for share in shares]


def _check_clients(rows: int, clients: int) -> None:
    if not 1 <= clients <= rows:
        raise SettingsError(
            f"federated.clients must be between 1 and {rows} (the training rows), got {clients}"
        )
