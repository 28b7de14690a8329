"""Which layers of a model an adapter can act on, and what is said of those where it cannot."""

from __future__ import annotations

import ast
import functools
import inspect
import math
import textwrap
import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from peft import LoraConfig
from peft.tuners.tuners_utils import (
    BaseTunerLayer,
    _check_lora_target_modules_mamba,
    _maybe_include_all_linear_layers,
)
from peft.utils.constants import INCLUDE_LINEAR_LAYERS_SHORTHAND
from peft.utils.other import get_pattern_key
from torch import nn
from torch.nn.modules.conv import _ConvNd
from transformers.pytorch_utils import Conv1D

from rankwise.core.errors import ModelError
from rankwise.methods.adapters.bridge import linear_sides
from rankwise.methods.adapters.factored_weight import FactoredWeight
from rankwise.methods.adapters.quantised import is_supported

_MOST_NAMES = 6
# What is asked of a weight without reading its values, and where a model only sets itself up.
_ASKED = {"dtype", "device", "shape", "size", "ndim", "dim", "numel", "requires_grad", "is_meta"}
_SETTING_UP = {"__init__", "_init_weights", "init_weights", "reset_parameters", "extra_repr"}
_REASONS = {
    nn.Embedding: "it looks up rows and multiplies nothing; train tokens by "
    "trainable_token_indices, or all of it by modules_to_save",
    _ConvNd: "its change would be a convolution itself; adapt it with peft.LoraConfig",
}


def layers_of(model: nn.Module) -> Iterator[tuple[str, FactoredWeight]]:
    """Yield our layers by name."""
    for name, module in model.named_modules():
        if isinstance(module, FactoredWeight):
            yield name, module


def rank_of(config: Any, name: str) -> int:
    """Return the rank that the config of an adapter gives to the layer of that name."""
    ranks = config.rank_pattern or {}
    return ranks.get(get_pattern_key(list(ranks), name), config.r)


def check_adaptable(model: nn.Module, name: str) -> None:
    """Refuse a layer on which an adapter cannot act.

    Warns:
        UserWarning: The layer is one that, by its model's code, seems never to be called.

    Raises:
        ModelError: Naming the layer, and why.
    """
    base = _base_of(model, name)
    if reason := _why_never_called(model, name):
        raise ModelError(f"{name} cannot be adapted, as {reason}: leave it out of target_modules")
    if reason := _why_probably_never_called(model, name):
        warnings.warn(
            f"{reason} ({name}), where an adapter would not act: leave it out of target_modules",
            stacklevel=2,
        )
    if is_supported(base):
        return
    if not isinstance(base, nn.Linear | Conv1D):
        reasons = (text for kind, text in _REASONS.items() if isinstance(base, kind))
        reason = next(reasons, "leave it out of target_modules, or name it in exclude_modules")
        raise ModelError(
            f"{name} is of type {type(base).__name__}, but only Linear and Conv1D layers can be "
            f"adapted: {reason}"
        )
    # Other quantised weights, and sharded ones, are integers or subclasses of Parameter.
    if type(base.weight) is not nn.Parameter or not base.weight.is_floating_point():
        raise ModelError(
            f"{name} ({type(base).__name__}) has a weight of type {type(base.weight).__name__} and "
            f"{base.weight.dtype}, but only plain floating-point weights, those of bitsandbytes "
            "and torchao's Int8Tensor (Int8WeightOnlyConfig(version=2)) can be adapted: load the "
            "model in one of these"
        )
    if not base.weight.numel():
        raise ModelError(
            f"the weight of {name} is empty, as DeepSpeed ZeRO-3 leaves it, and an adapter starts "
            "from it: load the model without ZeRO-3, and train with DDP or FSDP2"
        )


def choose_linear_layers(config: Any, model: nn.Module, layer_class: type[FactoredWeight]) -> None:
    """Write out "all-linear" in a config as the layers on which an adapter can act.

    Warns:
        UserWarning: Of layers that are left out, and of weights that lie in no layer.

    Raises:
        ModelError: No layer is left.
    """
    targets = config.target_modules
    if not isinstance(targets, str) or targets.lower() != INCLUDE_LINEAR_LAYERS_SHORTHAND:
        return
    _maybe_include_all_linear_layers(config, model)  # writes them into the config
    # What trains in full beside the adapter is no layer of it.
    whole = set(config.modules_to_save or ())
    names = {name for name in config.target_modules if whole.isdisjoint(name.split("."))}
    uncalled = {name: why for name in names if (why := _why_left_uncalled(model, name))}
    narrow = _sides_below_rank(config, model, names - uncalled.keys(), layer_class)
    left_out = uncalled | {
        name: f"its smaller side is {side}, less than r={rank_of(config, name)}"
        for name, side in narrow.items()
    }
    left_out = dict(sorted(left_out.items()))
    config.target_modules = names - left_out.keys()
    if not config.target_modules:
        advice = f"; lower r to {max(narrow.values())} or less" if narrow else ""
        raise ModelError(
            f"'all-linear' finds no layer to adapt: {_listed(left_out) or 'none'}{advice}"
        )
    if left_out:
        warnings.warn(f"'all-linear' leaves out {_listed(left_out)}", stacklevel=2)
    _warn_of_experts(model, config)


def warn_of_stuck_layers(model: nn.Module, adapter_name: str) -> None:
    """Warn of the layers whose weight an adapter can never move, as it starts."""
    stuck = [
        name
        for name, layer in layers_of(model)
        if adapter_name in layer.r
        and not any(part.is_meta for part in layer.frozen_parts(adapter_name).values())
        and layer.is_stuck(adapter_name)
    ]
    if stuck:
        warnings.warn(
            f"the weights of {_listed(dict.fromkeys(stuck, ''))} are zero or tiny, and this "
            "adapter moves a weight in proportion to it: they will stay as they are. Leave them "
            "out, or adapt them with LoRA",
            stacklevel=2,
        )


def keep_from_fast_path(layer: nn.Module) -> None:
    """Keep PyTorch from computing an encoder layer by its weights alone, as in eval mode it does.

    It does not where a module of the encoder layer has a hook.
    """
    layer.register_forward_hook(_leave_as_it_is)


def _leave_as_it_is(*_: Any) -> None:
    return None


def _why_left_uncalled(model: nn.Module, name: str) -> str | None:
    return _why_never_called(model, name) or _why_probably_never_called(model, name)


def _sides_below_rank(
    config: Any, model: nn.Module, names: Iterable[str], layer_class: type[FactoredWeight]
) -> dict[str, int]:
    """Return the smaller side of each layer that is too narrow for its rank."""
    if not layer_class.is_bounded_by_sides:
        return {}
    sides = {name: min(linear_sides(_base_of(model, name))) for name in names}
    return {name: side for name, side in sides.items() if side < rank_of(config, name)}


def _why_never_called(model: nn.Module, name: str) -> str | None:
    """Return why an adapter on a layer would never act, if that is known of its kind."""
    parent_name, _, child = name.rpartition(".")
    parent = model.get_submodule(parent_name)
    if isinstance(parent, nn.MultiheadAttention):
        return "torch.nn.MultiheadAttention reads its weight and never calls it"
    by_kernels = "the kernels of Mamba read its weight and do not call it"
    if hasattr(parent, "A_log") and "weight" in _uses_of_children(type(parent)).get(child, ()):
        return by_kernels
    try:  # a list that PEFT keeps for its LoRA
        _check_lora_target_modules_mamba(LoraConfig(), model, child)
    except ValueError:
        return by_kernels
    return None


def _why_probably_never_called(model: nn.Module, name: str) -> str | None:
    """Return why an adapter on a layer would never act, judged by the code of its parent alone."""
    parent, _, child = name.rpartition(".")
    kind = type(model.get_submodule(parent))
    uses = _uses_of_children(kind).get(child, set())
    is_read = "weight" in uses and uses <= {"weight", "bias"}
    return f"{kind.__name__} reads its weight and never calls it" if is_read else None


@functools.cache
def _uses_of_children(kind: type) -> dict[str, set[str]]:
    """Map attributes of ``self`` to what the methods of a class take of them, "" for themselves.

    Empty where the source of a method is not at hand, or where a part of it does the work.
    """
    uses: dict[str, set[str]] = {}
    try:
        for nodes in _code_of_methods(kind):
            if any(map(_hands_itself_to_a_part, nodes)):
                return {}
            _note_uses(nodes, uses)
    except (OSError, TypeError, SyntaxError):
        return {}
    return uses


def _code_of_methods(kind: type) -> Iterator[list[ast.AST]]:
    for each in kind.__mro__:
        if each.__module__.partition(".")[0] in ("torch", "builtins"):
            continue
        for value in vars(each).values():
            method = getattr(value, "fget", value)
            if inspect.isfunction(method) and method.__name__ not in _SETTING_UP:
                yield list(ast.walk(ast.parse(textwrap.dedent(inspect.getsource(method)))))


def _hands_itself_to_a_part(node: ast.AST) -> bool:
    """Whether a node is a call such as ``self.processor(self, x)`` of diffusers."""
    match node:
        case ast.Call(func=ast.Attribute(value=ast.Name("self")), args=[ast.Name("self"), *_]):
            return True
        case _:
            return False


def _note_uses(nodes: list[ast.AST], uses: dict[str, set[str]]) -> None:
    outer = {id(each.value): each.attr for each in nodes if isinstance(each, ast.Attribute)}
    values = {id(each.value): each for each in nodes if isinstance(each, ast.Attribute)}
    for node in nodes:
        match node:
            case ast.Attribute(value=ast.Name(id="self"), attr=child, ctx=ast.Load()):
                taken = outer.get(id(node), "")
                if taken == "weight" and outer.get(id(values[id(node)])) in _ASKED:
                    continue
                uses.setdefault(child, set()).add(taken)
            case _:
                pass


def _base_of(model: nn.Module, name: str) -> nn.Module:
    layer: Any = model.get_submodule(name)
    return layer.get_base_layer() if isinstance(layer, BaseTunerLayer) else layer


def _warn_of_experts(model: nn.Module, config: Any) -> None:
    adapted = {f"{m}.{p}" for m, p in find_stacks(model, config.target_parameters or ())}
    others = {
        key: parameter.numel()
        for key, parameter, module in _parameters(model)
        if _is_stack(parameter, module) and key not in adapted
    }
    if others:
        names = config.target_modules
        numbers = sum(math.prod(linear_sides(_base_of(model, name))) for name in names)
        share = numbers / (numbers + sum(others.values()))
        warnings.warn(
            f"'all-linear' adapts {share:.0%} of the weights: "
            f"{_listed(dict.fromkeys(others, ''))} are stacks of matrices, such as experts, and no "
            "layers; name them in target_parameters to adapt them too",
            stacklevel=2,
        )


def find_stacks(model: nn.Module, targets: Iterable[str]) -> list[tuple[str, str]]:
    """Return the stacks of matrices whose names end as one of ``targets``: (module, parameter).

    They come in the order in which PEFT takes them, which layers around one module keep.

    Raises:
        ModelError: One is no stack, or its values are not plain floating-point numbers.
    """
    endings = tuple(f".{target}" for target in targets)
    found = []
    for key, parameter, module in _parameters(model):
        if not f".{key}".endswith(endings):
            continue
        module_name, _, parameter_name = key.rpartition(".")
        if not _is_stack(parameter, module) or not module_name:
            raise ModelError(
                f"{key} in target_parameters is a {type(module).__name__}'s parameter of shape "
                f"{tuple(parameter.shape)}, but only stacks of matrices (experts, out, in) of a "
                "module below the top can be adapted: name a layer in target_modules instead"
            )
        if type(parameter) is not nn.Parameter or not parameter.is_floating_point():
            raise ModelError(
                f"{key} is a {type(parameter).__name__} of {parameter.dtype}, but only plain "
                "floating-point stacks can be adapted: load the model unquantised and unsharded"
            )
        found.append((module_name, parameter_name))
    return found


def _parameters(model: nn.Module) -> Iterator[tuple[str, nn.Parameter, nn.Module]]:
    """Yield the base model's parameters under the names that they have without adapters."""
    for name, module in model.named_modules():
        if not isinstance(module, BaseTunerLayer):
            plain = name.replace(".base_layer", "")
            for parameter_name, parameter in module.named_parameters(recurse=False):
                yield f"{plain}.{parameter_name}".lstrip("."), parameter, module


def _is_stack(parameter: nn.Parameter, module: nn.Module) -> bool:
    return parameter.ndim == 3 and len(parameter) > 1 and not isinstance(module, _ConvNd)


def _listed(reasons: Mapping[str, str | None]) -> str:
    told = [
        f"{name} ({reason})" if reason else name
        for name, reason in list(reasons.items())[:_MOST_NAMES]
    ]
    more = len(reasons) - len(told)
    return ", ".join(told) + (f" and {more} more" if more > 0 else "")
