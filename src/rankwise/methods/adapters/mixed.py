"""Batches whose samples go through different adapters, by PEFT's argument ``adapter_names``.

    model(**batch, adapter_names=["first", "second", "__base__"])

PEFT drops that argument in silence for every adapter type whose tuner does not take it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import nn

from rankwise.core.errors import ModelError

BASE = "__base__"  # PEFT's word for a sample that no adapter changes


@contextlib.contextmanager
def adapters_by_sample(model: nn.Module, names: Sequence[str], *, beams: int) -> Iterator[None]:
    """Hand the adapter's name of each sample to every adapted layer of ``model``, until exit.

    With ``beams`` each sample is repeated so often everywhere but in an encoder.

    Raises:
        ModelError: The model is in training mode, or no layer carries one of the names.
    """
    _check(model, names)
    repeated = [name for name in names for _ in range(beams)]
    encoder = _encoder_modules(model)
    handles = []
    try:
        for module in model.modules():
            if isinstance(module, BaseTunerLayer | AuxiliaryTrainingWrapper):
                given = list(names) if module in encoder else repeated
                hook = partial(_add_names, names=given)
                handles.append(module.register_forward_pre_hook(hook, with_kwargs=True))
        yield
    finally:
        for handle in handles:
            handle.remove()


def rows_of(names: Sequence[str], rows: int) -> dict[str, list[int]]:
    """Map each adapter's name to the numbers of its samples; the base's are left out.

    Raises:
        ModelError: There is not one name for each of ``rows``.
    """
    if len(names) != rows:
        raise ModelError(
            f"adapter_names must have one name a sample, got {len(names)} names for {rows} samples"
        )
    return {
        name: [row for row, other in enumerate(names) if other == name]
        for name in dict.fromkeys(names)
        if name != BASE
    }


def _check(model: nn.Module, names: Sequence[str]) -> None:
    if model.training:
        raise ModelError("adapter_names is for inference: call model.eval() first")
    layers = [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
    known = set[str]().union(*(layer._get_available_adapters() for layer in layers))
    if unknown := sorted(set(names) - known - {BASE}):
        raise ModelError(
            f"adapter_names has {unknown}, but the model carries {sorted(known)}: name these, or "
            f"{BASE!r} for the base alone"
        )


def _add_names(
    _module: nn.Module, args: Any, kwargs: dict[str, Any], *, names: list[str]
) -> tuple[Any, dict[str, Any]]:
    return args, {**kwargs, "adapter_names": names}


def _encoder_modules(model: nn.Module) -> set[nn.Module]:
    """Return the modules of an encoder beside a decoder, which sees no beams."""
    if not getattr(getattr(model, "config", None), "is_encoder_decoder", False):
        return set()
    return set(model.get_encoder().modules())  # type: ignore[operator]
