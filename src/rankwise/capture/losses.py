"""The loss of a batch as a sum over its terms, so that batches of any size add up.

Models return a *mean* over the labels that count. Adding such means weights the samples of a short
batch more; batches of 5, 5 and 2 then flip 15 % of the signs of a gradient. What adds up is the
mean times the number of terms in it.

That number depends on the model: a decoder-only language model compares position t with label t+1,
others position t with label t. No attribute of a model says so reliably, hence the model is asked:
whichever of the two reproduces its loss from its logits is the right one, and if neither does
(label smoothing, auxiliary losses, two heads) the sum is refused rather than guessed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from rankwise.core.errors import DataError, ModelError
from rankwise.core.labels import IGNORED_LABEL

_WAY_OUT = "pass loss=..., a function (model, batch) -> sum of the losses of the batch"


def summed_loss(model: nn.Module, batch: Any) -> Tensor:
    """Run ``model(**batch)`` and return its loss summed over the terms that its mean runs over.

    The terms are the rows for one label a row (classes that are not -100) and for floating-point
    labels, and the counted tokens for labels of two and more dimensions.

    Raises:
        DataError: The batch is no mapping with ``labels``, or none of its labels counts.
        ModelError: The model returns no ``loss``, or one that is no plain mean over the labels.
    """
    if not isinstance(batch, Mapping) or "labels" not in batch:
        received = sorted(batch) if isinstance(batch, Mapping) else type(batch).__name__
        raise DataError(f"a batch must be a mapping with 'labels', got {received}: {_WAY_OUT}")
    output = model(**batch)
    if not isinstance(output, Mapping) or output.get("loss") is None:
        raise ModelError(
            f"{type(model).__name__} must return a mapping with 'loss', got "
            f"{type(output).__name__} without one: {_WAY_OUT}"
        )
    return output["loss"] * count_terms(output, batch["labels"])


def count_terms(output: Mapping[str, Any], labels: Tensor) -> int:
    """Return the number of terms over which the loss in ``output`` is a mean.

    Raises:
        DataError: No label counts.
        ModelError: The loss is no plain mean over the labels.
    """
    if labels.is_floating_point():
        return len(labels)
    counted = int((labels != IGNORED_LABEL).sum())
    if not counted:
        raise DataError(f"every label of a batch is {IGNORED_LABEL}: leave the batch out")
    if labels.dim() < 2:
        return counted
    return _count_tokens(output, labels)


@torch.no_grad()
def _count_tokens(output: Mapping[str, Any], labels: Tensor) -> int:
    logits, loss = output.get("logits"), output["loss"].detach()
    if logits is None or logits.shape[:-1] != labels.shape:
        received = "none" if logits is None else tuple(logits.shape)
        raise ModelError(
            f"labels of shape {tuple(labels.shape)} need logits of that shape and a last dimension "
            f"of classes, got {received}: {_WAY_OUT}"
        )
    readings = ((logits, labels), (logits[..., :-1, :], labels[..., 1:]))
    # In the loss's own dtype the right reading agrees to rounding, also in a bf16 model.
    distances = [float((_mean_loss(*each, loss.dtype) - loss).abs()) for each in readings]
    best = min(distances)
    if not best <= 1e-3 * abs(float(loss)) or distances[0] == distances[1]:
        raise ModelError(
            f"the loss {float(loss):.6g} is not the mean cross-entropy of the logits against the "
            f"labels, neither in place nor one position on: {_WAY_OUT}"
        )
    _, counted = readings[distances.index(best)]
    return int((counted != IGNORED_LABEL).sum())


def _mean_loss(logits: Tensor, labels: Tensor, dtype: torch.dtype) -> Tensor:
    flat = logits.reshape(-1, logits.shape[-1]).to(dtype)
    return nn.functional.cross_entropy(flat, labels.reshape(-1), ignore_index=IGNORED_LABEL)
