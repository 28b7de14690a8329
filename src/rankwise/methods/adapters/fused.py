"""Which layers compute in one step of autograd, and PEFT's LoRA layers among them.

Layers that are hooked, offloaded, quantised, sharded, traced, or under a transform of
``torch.func`` have the plain form, which is equal up to rounding.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any, cast

import torch
from peft.tuners import lora
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.modules import module as every_module

from rankwise.core.errors import ModelError
from rankwise.core.undoing import undone
from rankwise.methods.adapters.bridge import weight_of
from rankwise.methods.adapters.fused_linear import Factors, fused_linear, is_under_autocast
from rankwise.methods.adapters.working_copies import WorkingCopies

_HALVES = (torch.bfloat16, torch.float16)
_CAST = (torch.float32, *_HALVES)  # by autocast
COMPUTED = (torch.float64, torch.float32, *_HALVES)


def fused_dtype(base: nn.Module, x: Tensor) -> torch.dtype | None:
    """Return the dtype in which ``base`` and a change beside it can be one step; None if not.

    They can where a call of ``base`` does nothing but W x + b, with W and b frozen.
    """
    if not _is_plain_linear(base) or _is_transformed():
        return None
    weight: Any = base._parameters["weight"]
    given, stored = x.dtype, weight.dtype
    if is_under_autocast(x):  # which leaves float64 alone
        is_cast = given in _CAST and stored in _CAST
        return torch.get_autocast_dtype(x.device.type) if is_cast else None
    return stored if given is stored and given in COMPUTED else None


def common_dropout(modules: list[nn.Module]) -> float | None:
    """Return with which probability all of ``modules``, one or more, drop the inputs they share.

    None if they do more than that, or if several of them draw.
    """
    probability = 0.0
    for module in modules:
        if type(module) is nn.Dropout:
            probability = (module.training and module.p) or probability
        elif type(module) is not nn.Identity:
            return None
    return None if probability and len(modules) > 1 else probability


def _is_plain_linear(base: nn.Module) -> bool:
    if type(base) is not nn.Linear or not is_readable(base):
        return False
    parameters = base._parameters
    weight, bias = parameters.get("weight"), parameters.get("bias")
    if type(weight) is not nn.Parameter or weight.requires_grad:
        return False
    trains = bias is not None and bias.requires_grad
    is_whole = not hasattr(weight, "ds_id")  # DeepSpeed's ZeRO-3
    return is_whole and not trains and not _has_global_hook()


def is_readable(module: nn.Module) -> bool:
    """Tell whether a call of ``module`` does nothing but what its class says.

    So that its weight may be read in the place of a call. Accelerate, for one, replaces a module's
    forward to bring its weight when it is called; Opacus hooks those that train.
    """
    own: Any = module.__dict__
    return not (
        own["_forward_hooks"]
        or own["_forward_pre_hooks"]
        or own["_backward_hooks"]
        or own["_backward_pre_hooks"]
        or "forward" in own
    )


def _has_global_hook() -> bool:
    # torch 2.6 has no function for it.
    return bool(
        every_module._global_forward_hooks
        or every_module._global_forward_pre_hooks
        or every_module._global_backward_hooks
        or every_module._global_backward_pre_hooks
    )


def _is_transformed() -> bool:
    """Tell whether a transform is at work that sees operations and no steps of autograd."""
    if torch.compiler.is_compiling():
        return False
    return (
        torch._C._are_functorch_transforms_active()
        or torch._C._is_tracing()
        or forward_ad._current_level >= 0
    )


class FusedLoraLinear(lora.Linear):
    """PEFT's LoRA linear layer, one step of autograd where it does nothing else."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Return what PEFT's layer returns."""
        return lora_forward(self, x, *args, **kwargs)


def lora_forward(layer: lora.Linear, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Return what ``layer`` computes, in one step of autograd where that can be.

    A layer with DoRA or another variant, a bias of its own, factors that are hooked or offloaded,
    merged or mixed adapters, several of which one drops inputs, or with arguments beside x takes
    PEFT's way.
    """
    base: Any = layer._modules["base_layer"]
    is_bare = not (args or kwargs or layer.merged or layer.disable_adapters)
    dtype = fused_dtype(base, x) if is_bare else None
    adapters = [] if dtype is None else _plain_adapters(layer)
    dropout = common_dropout([each for *_, each in adapters])
    if not adapters or dtype is None or dropout is None:
        return lora.Linear.forward(layer, x, *args, **kwargs)
    scalings = [layer.scaling[name] for name, *_ in adapters]
    if len(adapters) == 1:
        _, B, A, _ = adapters[0]
        copies = layer.__dict__.get("working_copies")
        if copies is not None:
            B, A = copies.of(B, dtype), copies.of(A, dtype)
        factors, scaling = (B, None, A), scalings[0]
    else:
        scaled = zip(scalings, adapters, strict=True)
        factors, scaling = join([(B * s, None, A) for s, (_, B, A, _) in scaled]), 1
    return fused_linear(base, x, factors, dtype=dtype, dropout=dropout, scaling=scaling)


def _plain_adapters(layer: lora.Linear) -> list[tuple[str, Tensor, Tensor, nn.Module]]:
    """Return the names, B, A and dropouts of the active adapters; of none if one does more."""
    # Read where modules hold their own: asked for by name they take the longest of a step.
    own: Any = layer._modules
    lefts, rights = own["lora_B"]._modules, own["lora_A"]._modules
    dropouts = own["lora_dropout"]._modules
    adapters = []
    for name in layer.active_adapters:
        if name not in rights:
            continue
        left, right = lefts[name], rights[name]
        is_plain = _is_plain_factor(left) and _is_plain_factor(right) and left.bias is None
        if not is_plain or name in layer.lora_variant:
            return []
        adapters.append((name, weight_of(left), weight_of(right), dropouts[name]))
    return adapters


def _is_plain_factor(factor: nn.Module) -> bool:
    return type(factor) is nn.Linear and is_readable(factor)


def join(factors: list[Factors]) -> Factors:
    """Return factors of the sum of the products B M A."""
    B = torch.cat([B if M is None else B @ M.to(B.dtype) for B, M, _ in factors], dim=1)
    return B, None, torch.cat([A for _, _, A in factors])


def fuse(model: nn.Module) -> list[str]:
    """Let the plain LoRA layers of PEFT in ``model`` compute in one step of autograd each.

    Their parameters, checkpoints and, up to rounding, results stay as they are; a step takes less
    time and memory. Layers over a quantised weight stay as they are. :func:`unfuse` undoes it.

    Returns:
        The names of the layers.

    Raises:
        ModelError: There is none.

    Example:
        >>> from peft import LoraConfig, get_peft_model
        >>> base = nn.Sequential(nn.Linear(8, 6))
        >>> fuse(get_peft_model(base, LoraConfig(r=2, target_modules=["0"])))
        ['base_model.model.0']
    """
    layers = {name: each for name, each in model.named_modules() if is_lora_linear(each)}
    if not layers:
        raise ModelError(
            f"{type(model).__name__} has no LoRA layer over a linear layer that is not quantised: "
            "attach one with peft.get_peft_model first"
        )
    for layer in layers.values():
        layer.__class__ = FusedLoraLinear
    return list(layers)


def unfuse(model: nn.Module) -> None:
    """Undo :func:`fuse`."""
    for layer in model.modules():
        if type(layer) is FusedLoraLinear:
            cast(Any, layer).__class__ = lora.Linear


@contextlib.contextmanager
def fused_lora(layers: Iterable[object], copies: WorkingCopies | None = None) -> Iterator[None]:
    """Let those of ``layers`` that are PEFT's plain LoRA linear layers be fused meanwhile.

    Where they are, they compute with the working copies of their factors, if there are any.
    """
    linear: list[Any] = [layer for layer in layers if is_lora_linear(layer)]
    plain = [layer for layer in linear if type(layer) is lora.Linear]

    def restore() -> None:
        for layer in plain:
            layer.__class__ = lora.Linear
        for layer in linear:
            layer.__dict__.pop("working_copies", None)

    with undone(restore):
        for layer in plain:
            layer.__class__ = FusedLoraLinear
        for layer in linear:
            layer.working_copies = copies
        yield


def is_lora_linear(layer: object) -> bool:
    """Tell whether ``layer`` is PEFT's plain LoRA linear layer, fused or not."""
    return type(layer) in (lora.Linear, FusedLoraLinear)
