"""PEFT's LoRA linear layer computed as one step of autograd, where nothing else happens in it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

from peft.tuners import lora
from torch import Tensor

from rankwise.core.undoing import undone
from rankwise.methods.adapters.fused import fused_linear, is_fusable


def lora_forward(
    layer: lora.Linear, adapter_name: str, x: Tensor, *args: Any, **kwargs: Any
) -> Tensor:
    """Return what ``layer`` computes, in one step where ``adapter_name`` alone changes its output.

    A layer with DoRA or another variant, a bias of its own, merged or mixed adapters, or arguments
    beside x takes PEFT's way.
    """
    is_plain = (
        not (args or kwargs or layer.merged or layer.disable_adapters)
        and layer.active_adapters == [adapter_name]
        and adapter_name not in layer.lora_variant
        and layer.lora_B[adapter_name].bias is None
        and is_fusable(layer, x, layer.lora_dropout[adapter_name])
    )
    if not is_plain:
        return lora.Linear.forward(layer, x, *args, **kwargs)
    B, A = layer.lora_B[adapter_name].weight, layer.lora_A[adapter_name].weight
    scaled: Any = B * layer.scaling[adapter_name]
    return fused_linear(layer.base_layer, x, scaled, None, A)  # type: ignore[arg-type]


@contextlib.contextmanager
def fused_lora(layers: Iterable[object], adapter_name: str) -> Iterator[None]:
    """Let those of ``layers`` that are PEFT's plain LoRA linear layers compute so meanwhile."""
    plain = [layer for layer in layers if type(layer) is lora.Linear and _computes_itself(layer)]

    def restore() -> None:
        for layer in plain:
            vars(layer).pop("forward", None)

    with undone(restore):
        for layer in plain:
            layer.forward = partial(lora_forward, layer, adapter_name)
        yield


def _computes_itself(layer: lora.Linear) -> bool:
    """Tell whether no other forward was put in place of a layer's or its base's (Accelerate)."""
    base: Any = layer.base_layer
    return "forward" not in vars(layer) and "forward" not in vars(base)
