"""The batches that an estimate or an initialization reads, whatever they are made of."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from rankwise.core.errors import DataError, RankwiseError

WHAT_A_BATCH_IS = (
    "a batch maps the names of the model's arguments to tensors whose first dimension counts its "
    "samples"
)


def collect_batches(batches: Iterable[Any], most: int | None = None) -> list[Any]:
    """Read ``batches`` once and keep them, so that several passes see the same ones.

    Args:
        batches: The series of batches.
        most: How many are read at most, so that the series may be endless; None reads all.

    Raises:
        DataError: There is none, or ``batches`` is one batch instead of a series of them.
    """
    if isinstance(batches, (Mapping, Tensor, str)):
        raise DataError(
            "batches must be a list or another series of batches, got one "
            f"{type(batches).__name__}: wrap it in a list"
        )
    # Those of Datasets are no Dataset of torch's, and know their rows by name.
    if isinstance(batches, Dataset) or hasattr(batches, "column_names"):
        raise DataError(
            f"batches is a {type(batches).__name__}, a series of single rows: wrap it in a "
            "DataLoader, or cut it into batches"
        )
    try:
        series = iter(batches)
    except TypeError:
        raise DataError(
            f"batches must be a series of batches, got {type(batches).__name__}: pass a list"
        ) from None
    collected = list(itertools.islice(series, most))
    if not collected:
        raise DataError("batches is empty: pass at least one batch")
    return collected


def check_batch(batch: Any) -> None:
    """Refuse what no model runs on by ``model(**batch)``, naming the key.

    Raises:
        DataError: The batch is no mapping, has something other than tensors under a key, or none of
        its samples or positions counts.
    """
    if not isinstance(batch, Mapping):
        raise DataError(
            f"a batch must be a mapping of the model's arguments, got {type(batch).__name__}: "
            "pass loss=..., a function (model, batch) that runs the model"
        )
    if not batch:
        raise DataError(f"it is empty: {WHAT_A_BATCH_IS}")
    for key, value in batch.items():
        _check_value(key, value)
    mask, tokens, labels = (batch.get(k) for k in ("attention_mask", "input_ids", "labels"))
    rows = [len(each) for each in (labels, tokens) if isinstance(each, Tensor) and each.dim()]
    if len(set(rows)) == 2:
        raise DataError(f"labels has {rows[0]} rows, but input_ids {rows[1]}")
    if not isinstance(mask, Tensor):
        return
    if not mask.any():
        raise DataError("attention_mask is 0 everywhere, so no position counts: leave it out")
    if isinstance(tokens, Tensor) and mask.dim() == tokens.dim() and mask.shape != tokens.shape:
        raise DataError(
            f"attention_mask has shape {tuple(mask.shape)}, but input_ids {tuple(tokens.shape)}: "
            "make them of one shape"
        )


def _check_value(key: Any, value: Any) -> None:
    if isinstance(value, (list, tuple)) and not any(isinstance(each, Tensor) for each in value):
        kinds = sorted({type(each).__name__ for each in value}) or ["nothing"]
        raise DataError(
            f"{key!r} is a {type(value).__name__} of {', '.join(kinds)}: make it a tensor, or "
            f"leave it out; {WHAT_A_BATCH_IS}"
        )
    if type(value).__module__ == "numpy":
        raise DataError(f"{key!r} is of NumPy: make it a tensor with torch.as_tensor")
    if isinstance(value, str):
        raise DataError(f"{key!r} is a string: tokenise it, or leave it out; {WHAT_A_BATCH_IS}")
    if not isinstance(value, Tensor):
        return
    if value.is_meta:
        raise DataError(f"{key!r} lies on the meta device, where it has no values: load it")
    if value.dim() and not value.numel():
        raise DataError(f"{key!r} is empty, of shape {tuple(value.shape)}: leave the batch out")
    if key in ("input_ids", "attention_mask", "pixel_values") and value.dim() < 2:
        raise DataError(
            f"{key!r} has shape {tuple(value.shape)}, one sample: add a first dimension with "
            ".unsqueeze(0)"
        )


@contextlib.contextmanager
def named_errors(batch: Any, number: int, total: int, *, is_ours: bool) -> Iterator[None]:
    """Say in an error which batch was run, the ``number``-th of ``total``, from 1.

    Args:
        batch: What was run.
        number: Its number.
        total: Number of batches.
        is_ours: Whether the batch is run as ``model(**batch)``. What a function of the user's
            raises passes as it is.

    Raises:
        DataError: The batch cannot be run.
    """
    where = f"batch {number} of {total}"
    try:
        yield
    except RankwiseError as error:
        raise type(error)(f"{where}: {error}") from error
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        if not is_ours:
            raise
        raise DataError(
            f"{where} could not be run ({type(error).__name__}: {error}); it holds "
            f"{describe(batch)}: {WHAT_A_BATCH_IS}"
        ) from error


def describe(batch: Any) -> str:
    """Say what a batch holds, by key, with shapes and dtypes."""
    if not isinstance(batch, Mapping):
        return _describe_value(batch)
    return ", ".join(f"{key} {_describe_value(value)}" for key, value in batch.items()) or "nothing"


def _describe_value(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}"
    return type(value).__name__


def borrowed(batch: Any, device: torch.device) -> Any:
    """Return ``batch`` on ``device`` for a pass with gradients that leaves it as it is.

    Tensors that require gradients are taken as constants, and those made in inference mode, which
    no graph may hold, are copied.
    """

    def borrow(tensor: Tensor) -> Tensor:
        tensor = tensor.detach().to(device)
        return tensor.clone() if tensor.is_inference() else tensor

    return _mapped(batch, borrow)


def to_device(batch: Any, device: torch.device) -> Any:
    """Return ``batch`` with its tensors on ``device``; mappings, tuples and lists are entered."""
    return _mapped(batch, lambda tensor: tensor.to(device))


def _mapped(batch: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(batch, Tensor):
        return change(batch)
    if isinstance(batch, Mapping):
        return {key: _mapped(value, change) for key, value in batch.items()}
    if type(batch) in (tuple, list):  # not their subclasses, which are built in their own ways
        return type(batch)(_mapped(value, change) for value in batch)
    return batch


def count_samples(batch: Any) -> int:
    """Return the number of samples in ``batch``: the first dimension of its first tensor.

    Raises:
        DataError: The batch holds no tensor with a batch dimension.
    """
    for tensor in _tensors(batch):
        if tensor.dim():
            return len(tensor)
    raise DataError(
        f"a batch must hold a tensor whose first dimension counts its samples, got "
        f"{type(batch).__name__} without one"
    )


def _tensors(batch: Any) -> Iterable[Tensor]:
    if isinstance(batch, Tensor):
        yield batch
    elif isinstance(batch, Mapping):
        for value in batch.values():
            yield from _tensors(value)
    elif isinstance(batch, (tuple, list)):
        for value in batch:
            yield from _tensors(value)
