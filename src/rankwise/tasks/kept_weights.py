"""Weights of a base model that a task has made: kept in one file, and read again as they are."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from rankwise.core.errors import ModelError


def keep_weights(weights: Mapping[str, Tensor], file: Path) -> None:
    """Write weights in float32 to ``file``, whole or not at all; the folders above it are made."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    save_file(dict(weights), partial)
    partial.replace(file)


def take_weights(
    model: nn.Module, file: Path, *, besides: Collection[str] = (), assign: bool = False
) -> None:
    """Put the weights in ``file`` into ``model``, in place: all of them.

    Args:
        model: Of the shapes that were kept.
        file: What :func:`keep_weights` wrote.
        besides: Names that were not kept, because others hold the same weights.
        assign: Whether the tensors that were read become the model's own, instead of values for
            those that it has.

    Raises:
        ModelError: The file is damaged, or of another model.
    """
    try:
        weights = load_file(file)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise _damaged(file, str(error)) from None
    wanted = {
        name: (each.shape, torch.float32)
        for name, each in model.state_dict().items()
        if name not in besides
    }
    if {name: (each.shape, each.dtype) for name, each in weights.items()} != wanted:
        raise _damaged(file, "its tensors are not those of the model")
    model.load_state_dict(weights, strict=False, assign=assign)


def _damaged(file: Path, why: str) -> ModelError:
    return ModelError(f"the base model {file} is damaged ({why}): remove it, and it is made again")
