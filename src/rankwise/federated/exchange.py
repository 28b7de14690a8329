"""What goes between server and clients: the state, its mean, its bytes, and what is refused.

A client keeps what it has received. The server therefore stamps each tensor of the state with the
round that made it, and sends a client what is newer than the last round it took part in.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from rankwise.core.errors import TrainingError

Tensors = dict[str, Tensor]


@dataclass
class State:
    """What a client must know, besides the base and the seeds, to begin the next round.

    Attributes:
        tensors: By name.
        stamps: The round before which each was made; a start that was sent has the stamp 1.
    """

    tensors: Tensors = field(default_factory=dict)
    stamps: dict[str, int] = field(default_factory=dict)

    def put(self, tensors: Mapping[str, Tensor], stamp: int) -> None:
        """Add ``tensors``, or put them in the place of those of the same name."""
        self.tensors.update(tensors)
        self.stamps.update(dict.fromkeys(tensors, stamp))

    def newer_than(self, stamp: int) -> Tensors:
        """Return what a client lacks that knows everything up to ``stamp``; 0 knows nothing."""
        return {name: each for name, each in self.tensors.items() if self.stamps[name] > stamp}


def count_bytes(tensors: Mapping[str, Tensor]) -> int:
    """Return the bytes of the numbers, without what a message puts around them."""
    return sum(each.numel() * each.element_size() for each in tensors.values())


def weights_of(examples: Sequence[int]) -> list[float]:
    """Return the weights nᵢ / Σn of clients with ``examples`` rows."""
    return [count / sum(examples) for count in examples]


def weighted_mean(uploads: Sequence[Mapping[str, Tensor]], weights: Sequence[float]) -> Tensors:
    """Return Σ wᵢ Tᵢ for each tensor, summed in float64; one upload of weight 1 comes back as is.

    Example:
        >>> uploads = [{"R": torch.tensor([0.0])}, {"R": torch.tensor([4.0])}]
        >>> weighted_mean(uploads, weights_of([3, 1]))
        {'R': tensor([1.])}
    """
    return {
        name: _sum_of([upload[name] for upload in uploads], weights).to(like.dtype)
        for name, like in uploads[0].items()
    }


def distance(
    changes: Sequence[Mapping[str, Tensor]],
    weights: Sequence[float],
    applied: Mapping[str, Tensor],
) -> float:
    """Return ‖Σ wᵢ ΔWᵢ − ΔW‖ / ‖Σ wᵢ ΔWᵢ‖ over all layers; 0 where nothing was changed.

    Args:
        changes: For each client, its dense change (out, in) of each weight in this round.
        weights: Those of the clients.
        applied: The change that the server made instead.
    """
    off, size = 0.0, 0.0
    for name, change in applied.items():
        mean = _sum_of([each[name] for each in changes], weights)
        off += float((mean - change.double()).square().sum())
        size += float(mean.square().sum())
    if size == 0:
        return 0.0 if off == 0 else math.inf
    return math.sqrt(off / size)


def fault_of(upload: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> str | None:
    """Say why an upload cannot be averaged with tensors like ``like``; None if it can."""
    if upload.keys() != like.keys():
        strange = sorted(upload.keys() ^ like.keys())
        return f"its tensors are not those of this method ({', '.join(strange[:3])})"
    for name, each in upload.items():
        wanted = like[name]
        if each.shape != wanted.shape or each.dtype != wanted.dtype:
            return (
                f"{name} must be {wanted.dtype} of shape {tuple(wanted.shape)}, "
                f"got {each.dtype} of shape {tuple(each.shape)}"
            )
        if not bool(torch.isfinite(each).all()):
            return f"{name} is not finite"
    return None


def check_enough(present: int, *, needed: int, round_number: int) -> None:
    """Stop a run in which too few clients are left.

    Raises:
        TrainingError: There are fewer than ``needed``.
    """
    if present < needed:
        raise TrainingError(
            f"round {round_number}: {present} clients gave an update that can be used, at least "
            f"{needed} are needed (federated.min_clients): bring clients back, and go on with "
            "--resume"
        )


def _sum_of(tensors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    total = weights[0] * tensors[0].double()
    for tensor, weight in zip(tensors[1:], weights[1:], strict=True):
        total += weight * tensor.double()
    return total
