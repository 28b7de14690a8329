"""How updates become one: their mean, or an aggregate that a few wrong ones cannot carry away.

    mean            Σ wᵢ Tᵢ with wᵢ = nᵢ / Σn
    median          the median of each number (Yin et al. 2018, arXiv 1803.01498, Definition 1)
    trimmed-mean    the mean of each number without its smallest and largest (there, Definition 2)
    norm-clipping   Σ wᵢ (T + ΔTᵢ · min(1, c / ‖ΔTᵢ‖)) (Sun et al. 2019, arXiv 1911.07963)

T is what the round began with, ΔTᵢ = Tᵢ − T what client i changed in it. The median and the
trimmed mean count each client once, whatever its number of examples: no client can outweigh others
by what it says of itself. Flower has the same in FedMedian, in FedTrimmedAvg and in its clipping
for differential privacy, for whole models; here it is for what trains.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median

import torch
from torch import Tensor

from rankwise.federated.exchange import Tensors
from rankwise.training.settings.federated import FederatedSettings


def aggregate(
    uploads: Sequence[Mapping[str, Tensor]],
    examples: Sequence[int],
    present: Mapping[str, Tensor],
    federated: FederatedSettings,
) -> Tensors:
    """Return what ``federated.aggregation`` makes of the uploads of a round.

    Args:
        uploads: What each client has trained, by the names of the parameters.
        examples: The numbers of examples of the clients.
        present: What all of them began the round with.
        federated: Names the aggregate, and its options.
    """
    count = len(uploads)
    match federated.aggregation:
        case "median":
            return trimmed_mean(uploads, cut=(count - 1) // 2)
        case "trimmed-mean":
            return trimmed_mean(uploads, cut=federated.trimmed_of(count))
        case "norm-clipping":
            limit = federated.clipping_norm or median(norms_of(uploads, present))
            clipped = [clip(upload, present, limit) for upload in uploads]
            return weighted_mean(clipped, weights_of(examples))
        case "mean":
            return weighted_mean(uploads, weights_of(examples))


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


def trimmed_mean(uploads: Sequence[Mapping[str, Tensor]], *, cut: int) -> Tensors:
    """Return the mean of each number, in float64, without its ``cut`` smallest and largest values.

    Example:
        >>> uploads = [{"R": torch.tensor([value])} for value in (1.0, 2.0, 1e30)]
        >>> trimmed_mean(uploads, cut=1)
        {'R': tensor([2.])}
    """
    made: Tensors = {}
    for name, like in uploads[0].items():
        ordered = torch.stack([upload[name].double() for upload in uploads]).sort(dim=0).values
        made[name] = ordered[cut : len(uploads) - cut].mean(dim=0).to(like.dtype)
    return made


def clip(upload: Mapping[str, Tensor], present: Mapping[str, Tensor], limit: float) -> Tensors:
    """Return ``upload`` with its change from ``present`` scaled down to the norm ``limit``.

    What is within the limit comes back as is.
    """
    (norm,) = norms_of([upload], present)
    if norm <= limit:
        return dict(upload)
    return {
        name: (start + (upload[name].double() - start) * (limit / norm)).to(upload[name].dtype)
        for name, start in ((name, each.double()) for name, each in present.items())
    }


def norms_of(uploads: Sequence[Mapping[str, Tensor]], present: Mapping[str, Tensor]) -> list[float]:
    """Return ‖Tᵢ − T‖ over all tensors, in float64: how far each client has moved in the round."""
    return [
        math.sqrt(
            sum(
                float((upload[name].double() - start.double()).square().sum())
                for name, start in present.items()
            )
        )
        for upload in uploads
    ]


def distance(
    changes: Sequence[Mapping[str, Tensor]],
    weights: Sequence[float],
    applied: Mapping[str, Tensor],
) -> float | None:
    """Return ‖Σ wᵢ ΔWᵢ − ΔW‖ / ‖Σ wᵢ ΔWᵢ‖ over all layers; 0 where nothing was changed.

    Args:
        changes: For each client, its dense change (out, in) of each weight in this round.
        weights: Those of the clients.
        applied: The change that the server made instead.

    Returns:
        The relative distance; None where it has no finite value, because the mean is 0 and what was
        applied is not.
    """
    off, size = 0.0, 0.0
    for name, change in applied.items():
        mean = _sum_of([each[name] for each in changes], weights)
        off += float((mean - change.double()).square().sum())
        size += float(mean.square().sum())
    if size == 0:
        return 0.0 if off == 0 else None
    relative = math.sqrt(off / size)
    return relative if math.isfinite(relative) else None


def _sum_of(tensors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    total = weights[0] * tensors[0].double()
    for tensor, weight in zip(tensors[1:], weights[1:], strict=True):
        total += weight * tensor.double()
    return total
