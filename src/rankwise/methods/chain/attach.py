"""Opening and closing a layer for a chain, where the class of a living layer changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from peft.tuners import lora
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from rankwise.core.errors import ModelError
from rankwise.methods.adapters.bridge import adapter_parameters, freeze
from rankwise.methods.adapters.quantised import is_supported
from rankwise.methods.chain.layer import History, OpenedLayer
from rankwise.methods.chain.merged_history import FoldedLinear
from rankwise.methods.chain.unmerged_history import BESIDE

_OPENED: dict[type, type[OpenedLayer]] = {lora.Linear: FoldedLinear, **BESIDE}


def check_openable(name: str, layer: BaseTunerLayer) -> None:
    """Refuse a layer that can hold the history of a chain neither in its weight nor beside it.

    Raises:
        ModelError: The layer is in a chain already or no plain linear one, or its weight is
            quantised otherwise than tested, sharded, offloaded or trained itself.
    """
    if isinstance(layer, OpenedLayer):
        raise ModelError(f"{name} is in an open chain already: finish that one first")
    base: Any = layer.get_base_layer()
    if is_supported(base) and type(layer) in BESIDE:
        return
    weight = getattr(base, "weight", None)
    is_plain = type(weight) is nn.Parameter and weight.is_floating_point() and not weight.is_meta
    if type(layer) is not lora.Linear or not is_plain:
        raise ModelError(
            f"{name} is a {type(layer).__name__} over {type(base).__name__} with a weight of "
            f"{getattr(weight, 'dtype', None)}: a chain takes linear layers with a floating-point "
            "weight, or one quantised by bitsandbytes or torchao (int8); target these, in a model "
            "neither sharded nor offloaded"
        )
    if base.weight.requires_grad:
        raise ModelError(f"the base weight of {name} is trained itself: freeze it before the chain")


def open_layer(layer: BaseTunerLayer, adapter_name: str) -> OpenedLayer:
    """Give a LoRA layer that :func:`check_openable` accepts a history, still empty."""
    plain = type(layer)
    weight = cast(nn.Parameter, layer.get_base_layer().weight)
    base = None if plain in BESIDE else weight.detach().to("cpu", copy=True)
    opened = cast(OpenedLayer, layer)
    scaling = opened.scaling[adapter_name]
    layer.__class__ = _OPENED[plain]
    opened.history = History(adapter_name, plain, base, scaling)
    return opened


def way_back(layer: BaseTunerLayer, adapter_name: str) -> Callable[[], None]:
    """Return what brings a layer that is about to be opened back to where it is now."""
    frozen = layer.frozen_peft_weight_names.get(adapter_name, ())
    values = [
        (parameter, parameter.detach().clone(), parameter.requires_grad, parameter.grad)
        for parameter in adapter_parameters(layer, adapter_name).values()
    ]

    @torch.no_grad()
    def go_back() -> None:
        if isinstance(layer, OpenedLayer):
            layer.restore()
        freeze(layer, adapter_name, frozen)
        for parameter, value, requires_grad, gradient in values:
            parameter.copy_(value)
            parameter.requires_grad_(requires_grad)
            parameter.grad = gradient

    return go_back


def close_layer(layer: OpenedLayer, B: Tensor, A: Tensor) -> None:
    """Restore W₀ and leave a plain LoRA with ΔW = B A beside it: scaling 1, both factors train."""
    name = layer.history.adapter_name
    layer.restore()
    layer.r[name] = layer.lora_alpha[name] = len(A)
    layer.scaling[name], layer.use_rslora[name] = 1.0, False
    for container, factor in ((layer.lora_A, A), (layer.lora_B, B)):
        linear = cast(nn.Linear, container[name])
        linear.out_features, linear.in_features = factor.shape
        linear.weight = nn.Parameter(factor.to(linear.weight.dtype).contiguous())
    freeze(layer, name, ())
