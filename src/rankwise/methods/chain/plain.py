"""Layers of ours, in a living model, as PEFT's LoRA layers: what the end of their chain leaves.

A LoRA layer is made beside (:func:`plain_layer`), over the same base and with nothing in its
factors. Then the layer of ours takes its class and its attributes (:func:`become`), so that what
holds the layer, its hooks and the layers around it stay as they are; and so does PEFT's tuner.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable
from typing import Any, cast

from accelerate import init_empty_weights
from peft import LoraConfig, PeftModel, PeftType
from peft.tuners.lora import LoraLayer, LoraModel
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from rankwise.methods.adapters.bridge import is_transposed
from rankwise.methods.adapters.stacks import is_of_parameter

# What belongs to a module whatever its class is.
_KEPT = ("_forward_", "_backward_", "_is_full_backward_hook", "training")


def plain_layer(
    layer: BaseTunerLayer, model: nn.Module, adapter_name: str, config: LoraConfig
) -> nn.Module | None:
    """Return a LoRA layer of ``config`` over the base of ``layer``; None where it is one."""
    if isinstance(layer, LoraLayer):
        return None
    is_stack = is_of_parameter(layer)
    own = copy.copy(config)
    own.fan_in_fan_out = not is_stack and is_transposed(layer)
    options: dict[str, Any] = {"r": config.r, "lora_alpha": config.r, "loaded_in_4bit": True}
    options |= {"loaded_in_8bit": True}  # PEFT asks the weight itself too
    if is_stack:
        options["parameter_name"] = cast(Any, layer).parameter_name
    try:
        name = "base_model.model.hf_quantizer.quantization_config.get_apply_tensor_subclass"
        options["get_apply_tensor_subclass"] = operator.attrgetter(name)(model)
    except AttributeError:
        pass
    with init_empty_weights():  # its factors are those of the chain
        made = LoraModel._create_new_module(
            own, adapter_name, cast(Any, layer).base_layer, **options
        )
    for name, part in made.named_children():
        if name != "base_layer":
            part.train(cast(nn.Module, layer).training)
    made._active_adapter = layer._active_adapter
    made._disable_adapters = layer._disable_adapters
    return made


def become(layer: nn.Module, other: nn.Module) -> None:
    """Let a layer be what ``other`` is, with its own hooks."""
    kept = {name: value for name, value in vars(layer).items() if name.startswith(_KEPT)}
    turn_into(layer, type(other), {**vars(other), **kept})


def turn_into(layer: nn.Module, kind: type, attributes: dict[str, Any]) -> None:
    """Give a living module a class and all of its attributes."""
    layer.__class__ = kind
    object.__setattr__(layer, "__dict__", attributes)


def become_lora_model(model: nn.Module) -> None:
    """Let the tuner of a PEFT model be that of LoRA."""
    if isinstance(model, PeftModel):
        cast(Any, model.base_model).__class__ = LoraModel
        model.peft_type = PeftType.LORA


def way_back_of_model(model: nn.Module) -> Callable[[], None]:
    """Return what gives a PEFT model the tuner that it has now."""
    if not isinstance(model, PeftModel):
        return lambda: None
    kind, peft_type = type(model.base_model), model.peft_type

    def go_back() -> None:
        cast(Any, model.base_model).__class__ = kind
        model.peft_type = peft_type

    return go_back
