"""Stacks of matrices: the weights of all experts of a block in one parameter (Transformers 5).

Such a parameter is (experts, out, in), or (experts, in, out) where its module says so by
``is_transposed``, and the module reads it without calling a layer. Its adapters have the change of
each expert: ΔW, B and A are (experts, out, in), (experts, out, k) and (experts, k, in).

PEFT's ``lora.ParamWrapper`` (``target_parameters``) stores the same factors as A (experts · k, in),
expert after expert, and B (out, k · experts), rank after rank.
"""

from __future__ import annotations

from peft.tuners.lora import ParamWrapper
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D


def adapted_parameter_name(layer: BaseTunerLayer) -> str:
    """Return under which name the layer below an adapter holds the parameter that it adapts."""
    return getattr(layer, "parameter_name", "weight")


def adapted_parameter(layer: BaseTunerLayer) -> nn.Parameter:
    """Return the parameter that an adapter's layer adapts."""
    return getattr(layer.get_base_layer(), adapted_parameter_name(layer))


def is_of_parameter(layer: object) -> bool:
    """Tell whether a layer adapts a parameter by itself (PEFT's ``target_parameters``)."""
    return isinstance(layer, ParamWrapper) or getattr(layer, "stack", ()) != ()


def number_of_experts(layer: BaseTunerLayer) -> int | None:
    """Return how many matrices the adapted parameter stacks; None if it is one matrix."""
    if not hasattr(layer, "parameter_name"):
        return None
    parameter = adapted_parameter(layer)
    return len(parameter) if parameter.ndim == 3 else None


def is_stored_transposed(base: nn.Module) -> bool:
    """Tell whether a ``Conv1D``, or a module with stacks, stores its matrices as (in, out)."""
    return isinstance(base, Conv1D) or bool(getattr(base, "is_transposed", False))


def stack_sides(base: nn.Module, parameter: Tensor) -> tuple[int, int]:
    """Return (out, in) of the matrices of a parameter: one matrix, or a stack of them."""
    rows, columns = parameter.shape[-2:]
    is_turned = parameter.ndim == 3 and is_stored_transposed(base)
    return (columns, rows) if is_turned else (rows, columns)


def unpacked(factor: str, tensor: Tensor, experts: int | None) -> Tensor:
    """Return PEFT's ``B`` or ``A`` of a stack by expert, as a view; anything else, itself."""
    if experts is None or tensor.ndim == 3:
        return tensor
    if factor == "A":
        return tensor.view(experts, -1, tensor.shape[-1])
    return tensor.view(len(tensor), -1, experts).permute(2, 0, 1)


def packed(factor: str, tensor: Tensor) -> Tensor:
    """Return ``B`` (experts, out, k) or ``A`` (experts, k, in) as PEFT stores it."""
    if tensor.ndim == 2:
        return tensor
    if factor == "A":
        return tensor.reshape(-1, tensor.shape[-1])
    return tensor.permute(1, 2, 0).reshape(tensor.shape[1], -1)


def idle_experts(B: Tensor) -> list[int]:
    """Return the experts of a stack whose update is zero, as no token came to them."""
    return (~B.any(dim=-1).any(dim=-1)).nonzero().flatten().tolist() if B.ndim == 3 else []
