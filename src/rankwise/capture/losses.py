"""The loss of a batch as a sum over its terms, so that batches of any size add up.

Models return a *mean* over the labels that count. Adding such means weights the samples of a short
batch more; batches of 5, 5 and 2 then flip 15 % of the signs of a gradient. What adds up is the
mean times the number of terms in it.

That number depends on the model: a decoder-only language model compares position t with label t+1,
others position t with label t. No attribute of a model says so reliably, hence the model is asked:
whichever of the usual means reproduces its loss from its logits is the right one, and if none does
(a sum, class weights, label smoothing, auxiliary losses, two heads) the sum is refused rather than
guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from rankwise.core.errors import DataError, ModelError
from rankwise.core.labels import IGNORED_LABEL

ITEMS_IN_BATCH = "num_items_in_batch"
_WAY_OUT = "pass loss=..., a function (model, batch) -> sum of the losses of the batch"
# Of one number a label: squared and absolute distances, and the logistic loss of yes and no.
_DISTANCES: tuple[Callable[[Tensor, Tensor], Tensor], ...] = (
    functional.mse_loss,
    functional.binary_cross_entropy_with_logits,
    functional.l1_loss,
    functional.smooth_l1_loss,
)


def summed_loss(model: nn.Module, batch: Any) -> Tensor:
    """Run ``model(**batch)`` and return its loss summed over the terms that its mean runs over.

    The terms are the rows for one label a row (classes that are not -100) and for floating-point
    labels, and the counted tokens for labels of two and more dimensions. ``num_items_in_batch``, by
    which a Trainer makes a loss a sum, is left out.

    Raises:
        DataError: The batch is no mapping with ``labels``, or none of its labels counts.
        ModelError: The model returns no ``loss``, or one that is no plain mean over the labels.
    """
    return _checked_loss(model, batch, is_summed=True)


def mean_loss(model: nn.Module, batch: Any) -> Tensor:
    """Return the loss of ``model(**batch)`` as it is, once it is known to be a plain mean.

    Raises:
        DataError: As :func:`summed_loss`.
        ModelError: As there.
    """
    return _checked_loss(model, batch, is_summed=False)


def rows_of(batch: Any) -> list[Any]:
    """Cut a batch into batches of one row each.

    Raises:
        DataError: The batch is no mapping of tensors with one row count.
    """
    if not isinstance(batch, Mapping) or "labels" not in batch:
        raise DataError(f"a batch must be a mapping with 'labels', got {type(batch).__name__}")
    size = len(batch["labels"])
    columns = {key: each for key, each in batch.items() if key != ITEMS_IN_BATCH}
    odd = {
        key for key, each in columns.items() if not isinstance(each, Tensor) or len(each) != size
    }
    if odd:
        raise DataError(f"a batch cannot be cut into its {size} rows: {', '.join(sorted(odd))}")
    return [{key: each[row : row + 1] for key, each in columns.items()} for row in range(size)]


def _checked_loss(model: nn.Module, batch: Any, *, is_summed: bool) -> Tensor:
    if not isinstance(batch, Mapping) or "labels" not in batch:
        received = sorted(batch) if isinstance(batch, Mapping) else type(batch).__name__
        raise DataError(f"a batch must be a mapping with 'labels', got {received}: {_WAY_OUT}")
    # What a Trainer adds makes the loss a sum over something else.
    output = model(**{key: value for key, value in batch.items() if key != ITEMS_IN_BATCH})
    if not isinstance(output, Mapping) or output.get("loss") is None:
        raise ModelError(
            f"{type(model).__name__} must return a mapping with 'loss', got "
            f"{type(output).__name__} without one: {_WAY_OUT}"
        )
    terms = count_terms(output, batch["labels"])
    return output["loss"] * terms if is_summed else output["loss"]


def count_terms(output: Mapping[str, Any], labels: Tensor) -> int:
    """Return the number of terms over which the loss in ``output`` is a mean.

    Raises:
        DataError: No label counts.
        ModelError: The loss is no plain mean over the labels.
    """
    if not labels.is_floating_point() and not (labels != IGNORED_LABEL).any():
        raise DataError(f"every label of a batch is {IGNORED_LABEL}: leave the batch out")
    if not output["loss"].isfinite():
        return 1  # no number of terms makes it finite; who runs the batch says so
    if labels.is_floating_point() or labels.dim() < 2:
        return _count_rows(output, labels)
    return _count_tokens(output, labels)


@torch.no_grad()
def _count_rows(output: Mapping[str, Any], labels: Tensor) -> int:
    logits, loss = output.get("logits"), output["loss"].detach()
    if logits is None:
        raise ModelError(f"without logits the loss cannot be told to be a mean: {_WAY_OUT}")
    if not any(_agrees(mean, loss, logits) for mean in _row_means(logits, labels, loss.dtype)):
        raise ModelError(
            f"the loss {float(loss):.6g} is not a mean over the labels of shape "
            f"{tuple(labels.shape)}, by logits of shape {tuple(logits.shape)}: {_WAY_OUT}"
        )
    if labels.is_floating_point():
        return len(labels)
    return int((labels != IGNORED_LABEL).sum())


def _row_means(logits: Tensor, labels: Tensor, dtype: torch.dtype) -> Iterator[Tensor]:
    """Yield the usual means of losses of rows."""
    of_classes = labels.is_floating_point() and logits.shape == labels.shape and labels.dim() == 2
    if of_classes or (not labels.is_floating_point() and logits.shape[:-1] == labels.shape):
        yield from _cross_entropies(logits, labels, dtype)
    if logits.numel() == labels.numel():
        for distance in _DISTANCES:
            yield distance(logits.reshape(-1).to(dtype), labels.reshape(-1).to(dtype))


def _cross_entropies(logits: Tensor, labels: Tensor, dtype: torch.dtype) -> Iterator[Tensor]:
    """Yield the mean cross-entropy of (N, classes), in each precision in which a loss has it.

    Autocast on a GPU leaves logarithms of probabilities in the half precision of the logits, as
    PyTorch asks for them in the dtype of these, and takes the mean of them in float32. The logits
    may have been widened since.
    """
    labels = labels.to(dtype) if labels.is_floating_point() else labels
    yield functional.cross_entropy(logits.to(dtype), labels, ignore_index=IGNORED_LABEL)
    for half in (torch.bfloat16, torch.float16):
        narrow = logits.to(half)
        if dtype.itemsize > half.itemsize and torch.equal(narrow.to(dtype), logits.to(dtype)):
            # With a dtype, or whoever asks under autocast would have it wider.
            logarithms = functional.log_softmax(narrow, dim=-1, dtype=half).to(dtype)
            if labels.is_floating_point():
                yield -(logarithms * labels).sum() / len(labels)
            else:
                yield functional.nll_loss(logarithms, labels, ignore_index=IGNORED_LABEL)


def _agrees(mean: Tensor, loss: Tensor, logits: Tensor) -> bool:
    # A small loss is the difference of numbers of the size of the logits.
    rounding = 1e-6 * max(1.0, float(logits.abs().max()))
    # In half precision the last digit is a thousandth; elsewhere that much is another term.
    share = 1e-3 if loss.dtype.itemsize == 2 else 1e-5
    return float((mean - loss).abs()) <= share * abs(float(loss)) + rounding


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
    for means in zip(*(_token_means(*each, loss.dtype) for each in readings), strict=False):
        distances = [float((mean - loss).abs()) for mean in means]
        best = distances.index(min(distances))
        if distances[0] != distances[1] and _agrees(means[best], loss, logits):
            return int((readings[best][1] != IGNORED_LABEL).sum())
    raise ModelError(
        f"the loss {float(loss):.6g} is not the mean cross-entropy of the logits against the "
        f"labels, neither in place nor one position on: {_WAY_OUT}"
    )


def _token_means(logits: Tensor, labels: Tensor, dtype: torch.dtype) -> Iterator[Tensor]:
    return _cross_entropies(logits.reshape(-1, logits.shape[-1]), labels.reshape(-1), dtype)
