"""A frozen linear layer and the low-rank change beside it, as one step of autograd.

    y = W x + b + B M A x,       dx = Wᵀ dy + Aᵀ Mᵀ Bᵀ dy

Written with modules, autograd holds the layer's output and the adapter's, adds them into a third
tensor, and does the same again with the two gradients of x on the way back. Here each second
product is added inside the first. In addition x is kept for the backward pass only where A trains,
and as it came: a bfloat16 input is not kept again in the factors' float32.

The plain form remains for what a layer may be besides: hooked, quantised, sharded, under autocast
or dropout, with several adapters. Both give the same values up to rounding.
"""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable


def is_fusable(layer: BaseTunerLayer, x: Tensor, dropout: nn.Module) -> bool:
    """Tell whether nothing but W x + b and the one active adapter's change happens in a layer."""
    base: Any = layer.base_layer  # type: ignore[attr-defined]
    if type(base) is not nn.Linear or len(layer.active_adapters) != 1:
        return False
    hooks = (
        base._forward_hooks,
        base._forward_pre_hooks,
        base._backward_hooks,
        base._backward_pre_hooks,
    )
    trains = base.weight.requires_grad or (base.bias is not None and base.bias.requires_grad)
    is_plain = type(base.weight) is nn.Parameter and base.weight.dtype == x.dtype and not trains
    drops = dropout.training and getattr(dropout, "p", 0) > 0
    return is_plain and not any(hooks) and not drops and not _is_autocast(x)


def fused_linear(base: nn.Module, x: Tensor, B: Tensor, core: Tensor | None, A: Tensor) -> Tensor:
    """Return W x + b + B core A x for a layer that :func:`is_fusable` accepts.

    Args:
        base: The frozen ``nn.Linear`` with W (out, in) and b.
        x: (..., in), in the dtype of W.
        B: (out, r), scaling included, in the dtype of W or a wider one; so are the others.
        core: (r, r), or None for the identity.
        A: (r, in).
    """
    linear: Any = base
    return _FusedLinear.apply(x, linear.weight, linear.bias, B, core, A)  # type: ignore[return-value]


class _FusedLinear(Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        B: Tensor,
        core: Tensor | None,
        A: Tensor,
    ) -> Tensor:
        _, _, _, left_trains, core_trains, right_trains = ctx.needs_input_grad
        short = A @ columns_of(x, A)
        ctx.save_for_backward(
            x if right_trains else None,
            short if left_trains or core_trains else None,
            *(weight, B, core, A),
        )
        ctx.shape = x.shape
        return linear_plus(x, weight, bias, B, short if core is None else core @ short)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, short, weight, B, core, A = ctx.saved_tensors
        x_trains, _, _, left_trains, core_trains, right_trains = ctx.needs_input_grad
        dY = columns_of(dy, B)
        k = B.T @ dY
        dB = dcore = dA = None
        if left_trains:
            dB = ((short if core is None else core @ short) @ dY.T).T
        if core is not None:
            dcore = k @ short.T if core_trains else None
            k = core.T @ k
        if right_trains:
            dA = k @ columns_of(x, A).T
        dx = input_gradient(dy, weight, A, k, ctx.shape) if x_trains else None
        return dx, None, None, dB, dcore, dA


def columns_of(x: Tensor, factor: Tensor) -> Tensor:
    """Return x (..., n) as a matrix (n, columns), one vector a column, in the dtype of ``factor``.

    On a CPU a flat matrix times this was up to three times as fast as x times a narrow one.
    """
    return x.reshape(-1, x.shape[-1]).to(factor.dtype).T


def linear_plus(
    x: Tensor, weight: Tensor, bias: Tensor | None, left: Tensor, short: Tensor
) -> Tensor:
    """Return W x + b + left short, ``short`` being (k, columns); added in the wider dtype."""
    X, shape = x.reshape(-1, x.shape[-1]), (*x.shape[:-1], len(weight))
    # Written into a tensor of ours: what selective checkpointing keeps, the results of products,
    # may not be added to.
    Y = x.new_empty(len(X), len(weight))
    if bias is None:
        torch.mm(X, weight.T, out=Y)
    else:
        torch.addmm(bias, X, weight.T, out=Y)
    if Y.dtype == left.dtype:
        return Y.addmm_(short.T, left.T).view(shape)
    return torch.addmm(Y.to(left.dtype), short.T, left.T).to(Y.dtype).view(shape)


def input_gradient(
    dy: Tensor, weight: Tensor, right: Tensor, k: Tensor, shape: torch.Size
) -> Tensor:
    """Return Wᵀ dy + rightᵀ k in the shape and dtype of x."""
    dX = dy.reshape(-1, dy.shape[-1]) @ weight
    if dX.dtype == right.dtype:
        return dX.addmm_(k.T, right).view(shape)
    return torch.addmm(dX.to(right.dtype), k.T, right).to(dX.dtype).view(shape)


def _is_autocast(x: Tensor) -> bool:
    # The meta device, where a run is rehearsed, has no autocast to ask for.
    return not x.is_meta and torch.is_autocast_enabled(x.device.type)
