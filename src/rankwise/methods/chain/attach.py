"""Opening and closing a layer for a chain, where the class of a living layer changes.

What can fail is made beforehand: the histories with their copies of W₀ (:func:`new_histories`), the
factors of the end (:func:`plain_factors`) and, for layers of ours, the LoRA layers that they become
(``plain.py``). What then changes the layer is short, and :func:`way_back` leads back from it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from peft.tuners import lora
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from rankwise.core.errors import ModelError
from rankwise.core.modules import parameter_uses
from rankwise.methods.adapters.bridge import (
    adapter_parameters,
    base_shape,
    check_scaling,
    factors,
    freeze,
    rank,
)
from rankwise.methods.adapters.factored_weight import FactoredWeight
from rankwise.methods.adapters.fused import FusedLoraLinear, is_lora_linear
from rankwise.methods.adapters.quantised import is_supported
from rankwise.methods.adapters.stacks import (
    adapted_parameter,
    adapted_parameter_name,
    number_of_experts,
    packed,
)
from rankwise.methods.adapters.undrawn import Undrawn
from rankwise.methods.chain.factored_block import BESIDE_OURS, FOLDED
from rankwise.methods.chain.layer import History, OpenedLayer, cast_parameter
from rankwise.methods.chain.merged_history import FoldedLinear, FoldedParameter
from rankwise.methods.chain.plain import become, turn_into
from rankwise.methods.chain.unmerged_history import BESIDE
from rankwise.methods.chain.waiting import BaseDevice, waiting_copy

_OPENED: dict[type, type[OpenedLayer]] = {
    lora.Linear: FoldedLinear,
    FusedLoraLinear: FoldedLinear,
    lora.ParamWrapper: FoldedParameter,
    **FOLDED,
}
_OPENED_BESIDE: dict[type, type[OpenedLayer]] = {**BESIDE, **BESIDE_OURS}

# What PEFT keeps of an adapter beside its factors, and the end of a chain changes.
_NUMBERS = ("r", "lora_alpha", "scaling", "use_rslora")


def check_layers(model: nn.Module, layers: Mapping[str, BaseTunerLayer], adapter_name: str) -> None:
    """Refuse layers that cannot be chained: by kind, a shared weight, their scaling or rank.

    Raises:
        ModelError: Naming the first of them.
    """
    owners = parameter_uses(model)
    for name, layer in layers.items():
        _check_kind(name, layer)
        check_scaling(layer, adapter_name)
        if owners[id(adapted_parameter(layer))] > 1:
            raise ModelError(
                f"{name} shares its weight with another module, which a fold would change too: "
                "leave it out of target_modules"
            )
        out_features, in_features = base_shape(layer)
        limit = min(out_features, in_features)
        if (r := rank(layer, adapter_name)) > limit:
            limit_name = "output side" if out_features == limit else "input side"
            raise ModelError(
                f"r must be between 1 and {limit} (the {limit_name} of {name}), got {r}: "
                "lower it, or give this layer its own with rank_pattern"
            )


def has_learned(layer: BaseTunerLayer, adapter_name: str) -> bool:
    """Tell whether an adapter has learned something that a chain must not lose."""
    if isinstance(layer, FactoredWeight):
        return layer.has_learned(adapter_name)
    B, A = factors(layer, adapter_name)
    return bool(B.any() and A.any())


def new_histories(
    layers: Mapping[str, BaseTunerLayer], adapter_name: str, place: BaseDevice
) -> dict[str, History]:
    """Return empty histories for layers that :func:`check_layers` accepts, W₀ copied."""
    histories = {}
    for name, layer in layers.items():
        weight = adapted_parameter(layer)
        base = None if _is_quantised(layer) else waiting_copy(weight.detach(), place)
        scaling = cast(OpenedLayer, layer).scaling[adapter_name]
        histories[name] = History(adapter_name, type(layer), base, scaling)
    return histories


def open_layer(layer: BaseTunerLayer, history: History) -> OpenedLayer:
    """Let a layer compute with its history."""
    opened = cast(OpenedLayer, layer)
    opened.history = history
    layer.__class__ = (_OPENED if history.base is not None else _OPENED_BESIDE)[history.plain]
    return opened


def plain_factors(layer: OpenedLayer, B: Tensor, A: Tensor) -> dict[str, nn.Parameter]:
    """Make the parameters of a plain LoRA with ΔW = B A, for :func:`close_layer`."""
    parts = layer.open_parts()
    first = next(iter(parts.values()))
    made = {}
    for factor, value in (("B", B), ("A", A)):
        like = parts.get(factor, first)
        made[f"lora_{factor}"] = nn.Parameter(
            packed(factor, value).to(like.device, like.dtype).contiguous()
        )
    return made


def close_layer(
    layer: OpenedLayer, parameters: dict[str, nn.Parameter], plain: nn.Module | None = None
) -> None:
    """Leave a plain LoRA with these factors and scaling 1, which both train, beside W₀ restored.

    Args:
        layer: A layer whose base is restored.
        parameters: The factors.
        plain: The LoRA layer that it becomes, unless it is one.
    """
    name = layer.history.adapter_name
    layer.leave()
    if plain is not None:
        become(cast(nn.Module, layer), plain)
    for part, parameter in parameters.items():
        _set_factor(layer, part, name, parameter)
    rows = len(parameters["lora_A"])
    layer.r[name] = layer.lora_alpha[name] = rows // (number_of_experts(layer) or 1)
    layer.scaling[name], layer.use_rslora[name] = 1.0, False
    freeze(layer, name, ())


def way_back(layer: BaseTunerLayer, adapter_name: str) -> Callable[[], None]:
    """Return what brings a layer back to where it is now, from any change that a chain makes."""
    if isinstance(layer, FactoredWeight):
        return _way_back_of_ours(layer, adapter_name)
    kind, history = type(layer), getattr(layer, "history", None)
    blocks = history.blocks if history else []
    parts = adapter_parameters(layer, adapter_name)
    values = {part: (each, each.detach().clone(), each.grad) for part, each in parts.items()}
    trains = {part: parameter.requires_grad for part, parameter in parts.items()}
    frozen = layer.frozen_peft_weight_names
    numbers = {name: getattr(layer, name)[adapter_name] for name in _NUMBERS}

    @torch.no_grad()
    def go_back() -> None:
        for name, number in numbers.items():
            getattr(layer, name)[adapter_name] = number
        for part, (parameter, value, gradient) in values.items():
            _set_factor(layer, part, adapter_name, parameter)
            cast_parameter(parameter, value.dtype)
            parameter.copy_(value)
            parameter.requires_grad_(trains[part])
            parameter.grad = gradient
        layer.frozen_peft_weight_names = frozen
        if history is None:
            drop_history(layer)
            return
        opened = cast(OpenedLayer, layer)
        opened.history = history
        layer.__class__ = kind
        opened.set_blocks(blocks)

    return go_back


def _way_back_of_ours(layer: FactoredWeight, adapter_name: str) -> Callable[[], None]:
    kind, attributes, history = type(layer), dict(vars(layer)), getattr(layer, "history", None)
    blocks = history.blocks if history else []
    start = layer._starts.get(adapter_name)
    values: list[tuple[nn.Parameter, Tensor | None, Tensor | None]] = [
        (each, None if type(each) is Undrawn else each.detach().clone(), each.grad)
        for each in (factor.weight for factor in layer._factors(adapter_name))
    ]

    @torch.no_grad()
    def go_back() -> None:
        if history is None:
            drop_history(layer)
        turn_into(layer, kind, dict(attributes))
        for parameter, value, gradient in values:
            if value is not None:
                cast_parameter(parameter, value.dtype)
                parameter.copy_(value)
            elif type(parameter) is not Undrawn:
                assert start is not None
                start.put_off(parameter)
            parameter.grad = gradient
        if history is not None:
            cast(OpenedLayer, layer).set_blocks(blocks)

    return go_back


def drop_history(layer: BaseTunerLayer) -> None:
    """Give a layer its pretrained weight and PEFT's class, if it has not got them."""
    if isinstance(layer, OpenedLayer):
        layer.restore()
    elif hasattr(layer, "history"):  # it was about to be opened
        del cast(OpenedLayer, layer).history


def _set_factor(
    layer: BaseTunerLayer, part: str, adapter_name: str, parameter: nn.Parameter
) -> None:
    linear = cast(nn.Linear, getattr(layer, part)[adapter_name])
    linear.weight = parameter
    linear.out_features, linear.in_features = parameter.shape


def _check_kind(name: str, layer: BaseTunerLayer) -> None:
    if isinstance(layer, OpenedLayer):
        raise ModelError(f"{name} is in an open chain already: finish that one first")
    if _is_quantised(layer):
        return
    base: Any = layer.get_base_layer()
    weight: Any = getattr(base, adapted_parameter_name(layer), None)
    is_plain = type(weight) is nn.Parameter and weight.is_floating_point() and not weight.is_meta
    is_known = is_lora_linear(layer) or type(layer) in _OPENED
    if not is_known or not is_plain:
        raise ModelError(
            f"{name} is a {type(layer).__name__} over {type(base).__name__} with a weight of "
            f"{getattr(weight, 'dtype', None)}: a chain takes linear layers with a floating-point "
            "weight, or one quantised by bitsandbytes or torchao (int8), and stacks of experts; "
            "target these, in a model neither sharded nor offloaded"
        )
    if weight.numel() == 0:
        raise ModelError(
            f"the weight of {name} is empty, as DeepSpeed ZeRO-3 leaves it: make the chain without "
            "ZeRO-3; DDP and FSDP2 can have one"
        )
    if weight.requires_grad:
        raise ModelError(f"the base weight of {name} is trained itself: freeze it before the chain")


def _is_quantised(layer: BaseTunerLayer) -> bool:
    """Tell whether a chain can lie beside the quantised weight of a layer."""
    return type(layer) in _OPENED_BESIDE and is_supported(cast(nn.Module, layer.get_base_layer()))
