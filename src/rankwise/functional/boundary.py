"""ABM-LoRA: the loss that matches activation boundaries, and how far two models agree on them.

ABM-LoRA (2025), arXiv 2511.19145, Eq. 22; code lee-research/ABM-LoRA @ 39fac98, src/abm/utils.py.
We differ from that code: positions can be masked (padding counts there), and whatever it skips in
silence (layers that are missing, differ in shape or are not finite) is refused.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from rankwise.functional.arguments import ArgumentError, working_dtype

Masks = Sequence[Tensor | None] | None
_NOTHING_COUNTS = "no position counts; drop the batch or mend its mask"


def boundary_loss(
    student: Sequence[Tensor],
    reference: Sequence[Tensor],
    *,
    margin: float,
    layer_weights: Sequence[float] | Tensor,
    masks: Masks = None,
    reduction: Literal["mean", "sum"] = "mean",
) -> Tensor:
    """Push each pre-activation to the side of zero where the reference has it, a margin away.

    An element costs max(0, m − τ z)², with τ = +1 where the reference is positive and −1 elsewhere.
    A layer's cost is multiplied once by its weight: these are the w² of Eq. 22.

    Args:
        student: Pre-activations z, one tensor (batch, positions..., neurons) a layer.
        reference: The reference's pre-activations, or boolean tensors "is positive", of the same
            shapes. No gradient flows into them.
        margin: m >= 0.
        layer_weights: One non-negative weight a layer; see :func:`boundary_layer_weights`.
        masks: One boolean tensor (batch, positions...) a layer, True where a position counts, or
            None where all do.
        reduction: ``"mean"`` averages over the elements of a layer, then over layers, as the
            released code does; ``"sum"`` averages over samples and positions and sums over neurons
            and layers, as Eq. 22 does: larger by the number of layers times that of neurons.

    Returns:
        A scalar, in the dtype of ``student`` and float32 at least.

    Raises:
        TypeError: A mask is not boolean.
        ValueError: Lengths or shapes differ, a layer has nothing that counts, a value that counts
            is not finite, or another argument is wrong.

    Example:
        >>> student, reference = torch.tensor([[2.0, 0.0]]), torch.tensor([[1.0, -1.0]])
        >>> boundary_loss([student], [reference], margin=0.5, layer_weights=[1.0])
        tensor(0.1250)
    """
    loss = unchecked_boundary_loss(
        student,
        reference,
        margin=margin,
        layer_weights=layer_weights,
        masks=masks,
        reduction=reduction,
    )
    is_of_signs = not any(target.is_floating_point() for target in reference)
    if not (is_of_signs and math.isfinite(loss.detach())):
        _check_values(student, reference, masks)
    return loss


def unchecked_boundary_loss(
    student: Sequence[Tensor],
    reference: Sequence[Tensor],
    *,
    margin: float,
    layer_weights: Sequence[float] | Tensor,
    masks: Masks = None,
    reduction: Literal["mean", "sum"] = "mean",
) -> Tensor:
    """Return :func:`boundary_loss` without waiting for the device to look at values.

    It is not finite where a value of the student that counts is not, or where none counts.
    """
    if reduction not in ("mean", "sum"):
        raise ArgumentError(f"reduction must be 'mean' or 'sum', got {reduction!r}")
    if not 0 <= margin < math.inf:
        raise ArgumentError(f"margin must be finite and not negative, got {margin!r}")
    weights = _checked_weights(layer_weights, len(student))
    counted = _counted(student, reference, masks)
    costs = []
    for weight, (values, active, mask) in zip(weights, counted, strict=True):
        sides = 2 * active.view(torch.int8) - 1  # τ
        distance = margin - sides * values
        if mask is not None:
            distance = torch.where(mask.unsqueeze(-1), distance, 0)
        # relu would make 0 of -inf; this makes NaN of it.
        excess = (distance * (distance > 0)).square()
        neurons = values.shape[-1]
        positions = values.numel() // neurons if mask is None else mask.sum()
        scale = weight / neurons if reduction == "mean" else weight
        costs.append(excess.sum() / positions * scale)
    total = torch.stack(costs).sum()
    return total / len(costs) if reduction == "mean" else total


def sign_agreement(
    student: Sequence[Tensor], reference: Sequence[Tensor], *, masks: Masks = None
) -> Tensor:
    """Measure on which share of neurons two models agree: mean over layers of mean((s>0) = (t>0)).

    Arguments and errors are those of :func:`boundary_loss`; the result is a scalar from 0 to 1.

    Example:
        >>> sign_agreement([torch.tensor([[2.0, -1.0]])], [torch.tensor([[True, True]])])
        tensor(0.5000)
    """
    counted = _counted(student, reference, masks)
    _check_values(student, reference, masks)
    shares = [
        _mean(((values > 0) == active).to(values.dtype).mean(dim=-1), mask)
        for values, active, mask in counted
    ]
    return torch.stack(shares).mean()


def boundary_layer_weights(n: int, power: float = 2) -> list[float]:
    """Weigh later layers more: ((l + 1) / n)^power for l = 0, ..., n − 1.

    In an encoder-decoder model each stack counts its own layers: concatenate two lists.

    Raises:
        ValueError: ``n`` is below 1.

    Example:
        >>> boundary_layer_weights(2)
        [0.25, 1.0]
    """
    if n < 1:
        raise ArgumentError(f"n must be at least 1 layer, got {n!r}")
    return [((layer + 1) / n) ** power for layer in range(n)]


def _checked_weights(layer_weights: Sequence[float] | Tensor, layers: int) -> list[float]:
    weights = [float(weight) for weight in layer_weights]
    if len(weights) != layers:
        raise ArgumentError(
            f"layer_weights must hold one weight for each of {layers} layers, got {len(weights)}"
        )
    if not all(0 <= weight < math.inf for weight in weights):
        raise ArgumentError(f"layer_weights must be finite and not negative, got {weights}")
    return weights


def first_not_finite(layers: Sequence[Tensor], masks: Masks = None) -> int | None:
    """Return the number of the first layer with a value that counts and is not finite, or None.

    On an accelerator all are read at once.
    """
    masks = [None] * len(layers) if masks is None else masks
    flags = []
    for values, mask in zip(layers, masks, strict=True):
        finite = values.isfinite().all(dim=-1)
        flags.append((finite if mask is None else finite | ~mask).all().to(layers[0].device))
    found = torch.stack(flags)
    return None if found.all() else found.tolist().index(False)


def _counted(
    student: Sequence[Tensor], reference: Sequence[Tensor], masks: Masks
) -> list[tuple[Tensor, Tensor, Tensor | None]]:
    """Return each layer's values, where the reference is positive, and which positions count."""
    masks = [None] * len(student) if masks is None else masks
    if not student:
        raise ArgumentError("student has no layers: give one tensor for each monitored layer")
    if not len(student) == len(reference) == len(masks):
        raise ArgumentError(
            "student, reference and masks must have the same layers, "
            f"got {len(student)}, {len(reference)} and {len(masks)}"
        )
    for layer, (values, target, mask) in enumerate(zip(student, reference, masks, strict=True)):
        if values.shape != target.shape:
            raise ArgumentError(
                f"layer {layer}: student and reference must have the same shape, "
                f"got {tuple(values.shape)} and {tuple(target.shape)}"
            )
        if mask is not None:
            _check_mask(mask, values, layer)
        if values.numel() == 0:
            raise ArgumentError(f"layer {layer}: {_NOTHING_COUNTS}")
    return [
        (values.to(working_dtype(values)), _is_positive(target), mask)
        for values, target, mask in zip(student, reference, masks, strict=True)
    ]


def _is_positive(target: Tensor) -> Tensor:
    return target if target.dtype is torch.bool else target > 0


def _check_values(student: Sequence[Tensor], reference: Sequence[Tensor], masks: Masks) -> None:
    layer = first_not_finite(student, masks)
    if layer is None and any(target.is_floating_point() for target in reference):
        layer = first_not_finite(reference, masks)
    if layer is not None:
        raise ArgumentError(f"layer {layer}: activations hold NaN or infinite values")
    given = [(layer, mask) for layer, mask in enumerate(masks or []) if mask is not None]
    used = [mask.any().to(student[0].device) for _, mask in given]
    if used and not torch.stack(used).all():
        unused = [layer for layer, mask in given if not mask.any()]
        raise ArgumentError(f"layer {unused[0]}: {_NOTHING_COUNTS}")


def _mean(of_position: Tensor, mask: Tensor | None) -> Tensor:
    """Average over the positions that count, without picking them out one by one."""
    if mask is None:
        return of_position.mean()
    return torch.where(mask, of_position, 0).sum() / mask.sum()


def _check_mask(mask: Tensor, values: Tensor, layer: int) -> None:
    if mask.dtype is not torch.bool:
        raise TypeError(
            f"layer {layer}: the mask must be boolean, got {mask.dtype}; use mask.bool()"
        )
    if mask.shape != values.shape[:-1]:
        raise ArgumentError(
            f"layer {layer}: the mask must have shape {tuple(values.shape[:-1])}, the layer's "
            f"without neurons, got {tuple(mask.shape)}"
        )
