"""A frozen linear layer and the low-rank change beside it, as one step of autograd.

    y = W x + b + B M A x,       dx = Wᵀ dy + Aᵀ Mᵀ Bᵀ dy

Written with modules, autograd adds the layer's output and the adapter's into a third tensor, and so
it does with the two gradients of x. Here each second product is added inside the first, and x is
kept for the backward pass only where A trains, as it came.

All products are of one dtype, autocast's or that of W, and summed in float32; factors may be wider,
as a master copy that an optimizer moves. Nothing of the size of x or y is made in another dtype.
A scaling is taken by the products, so that it costs no operation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch._C._functorch import unwrap_if_dead
from torch.autograd import Function

Factors = tuple[Tensor, Tensor | None, Tensor]  # B, M or None for the identity, A


def fused_linear(
    base: nn.Module,
    x: Tensor,
    factors: Factors,
    *,
    dtype: torch.dtype,
    dropout: float = 0.0,
    scaling: float = 1.0,
) -> Tensor:
    """Return W x + b + s B M A d(x) in ``dtype``, that of all products.

    Args:
        base: The frozen ``nn.Linear`` with W (out, in) and b.
        x: (..., in).
        factors: B (out, r), M (r, r) or None for the identity, and A (r, in).
        dtype: The dtype of the result too; the rest may be of any other.
        dropout: With which probability d drops an input, drawn as ``nn.Dropout`` draws.
        scaling: s.
    """
    frozen = base._parameters["weight"], base._parameters["bias"]
    inputs = (in_dtype(x, dtype), *frozen, *factors, dropout, scaling)
    # A compiled step has no second derivatives, nor what leads to them.
    if torch.compiler.is_compiling():
        return _FusedStep.apply(*inputs)  # type: ignore[return-value]
    return run_step(_FusedLinear, inputs)[0]


def run_step(function: type[Function], inputs: Sequence[Any]) -> Any:
    """Take a step of autograd, as ``function.apply`` does where no transform is at work.

    That one first looks for transforms, of which there is none where layers are fused, and for
    defaults of arguments, which takes as long as a product.
    """
    # What is left of a transform that has ended is unwrapped, as there.
    alive = [unwrap_if_dead(each) if isinstance(each, Tensor) else each for each in inputs]
    if not torch.is_grad_enabled():  # as where a model writes
        return function.forward(_Unrecorded(), *alive)
    return super(Function, function).apply(*alive)  # type: ignore[misc]


class _Unrecorded:
    """Stands for what autograd hands a step that it records."""

    needs_input_grad = (False,) * 6  # x, W, b and the factors of any step

    def set_materialize_grads(self, value: bool) -> None:
        """Do nothing."""

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Do nothing."""


class _FusedLinear(Function):
    """y and A d(x), an output too so that second derivatives find their way through it."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        return _forward(ctx, *inputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        dy, dshort = gradients
        return _backward(ctx, dy, dshort)


class _FusedStep(Function):
    """y alone."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        return _forward(ctx, *inputs)[0]

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        (dy,) = gradients
        return _backward(ctx, dy, None)


def _forward(
    ctx: Any,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    B: Tensor,
    M: Tensor | None,
    A: Tensor,
    dropout: float,
    scaling: float,
) -> tuple[Tensor, Tensor]:
    x_trains, _, _, left_trains, core_trains, right_trains, *_ = ctx.needs_input_grad
    ctx.options = x.shape, scale_of_dropout(dropout), scaling
    X = as_rows(x)
    dropped, mask = torch.native_dropout(X, dropout, True) if dropout else (X, None)
    left, core, right = narrowed = _narrowed((B, M, A), x.dtype)
    short = times(dropped, right.T)
    ctx.save_for_backward(
        x if right_trains else None,  # as it came: derivatives of a view made here would be lost
        mask if x_trains or right_trains else None,
        short if left_trains or core_trains else None,
        *(weight, B, M, A, *narrowed),
    )
    y, Y = start_of_output(x, X, weight, bias)
    Y.addmm_(short if core is None else times(short, core.T), left.T, alpha=scaling)
    return y, short


def start_of_output(
    x: Tensor, X: Tensor, weight: Tensor, bias: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return W x + b in a new tensor, and the same as a matrix (N, out) to be added to."""
    out = weight.shape[0]
    y = x.new_empty((*x.shape[:-1], out))
    # Written into a tensor of ours: what selective checkpointing keeps, the results of products,
    # may not be added to. And y itself is no view: a model may change it in place.
    Y = y if x is X else y.view(-1, out)
    columns = in_dtype(weight, x.dtype).T
    if bias is None:
        torch.mm(X, columns, out=Y)
    else:
        torch.addmm(in_dtype(bias, x.dtype), X, columns, out=Y)
    return y, Y


def as_rows(x: Tensor) -> Tensor:
    """Return x (..., n) as a matrix (N, n), itself if it is one."""
    return x if x.ndim == 2 else x.reshape(-1, x.shape[-1])


def in_dtype(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the tensor in a dtype; itself, without asking PyTorch, if it is of that."""
    return tensor if tensor.dtype is dtype else tensor.to(dtype)


def _narrowed(factors: Factors, dtype: torch.dtype) -> Factors:
    B, M, A = factors
    return in_dtype(B, dtype), None if M is None else in_dtype(M, dtype), in_dtype(A, dtype)


def scale_of_dropout(probability: float) -> float:
    """Return by what ``nn.Dropout`` multiplies the inputs that it keeps."""
    return 1 / (1 - probability) if probability < 1 else 0.0


def _backward(ctx: Any, dy: Tensor | None, dshort: Tensor | None) -> tuple[Tensor | None, ...]:
    """Return the gradients by operations that have derivatives themselves.

    Autograd casts those of the factors.
    """
    gradient = dshort if dy is None else dy
    assert gradient is not None
    if is_under_autocast(gradient):  # whoever calls backward under autocast
        with torch.autocast(gradient.device.type, enabled=False):
            return _backward(ctx, dy, dshort)
    x, mask, short, weight, B, M, A, left, core, right = ctx.saved_tensors
    if torch.is_grad_enabled():
        left, core, right = _narrowed((B, M, A), gradient.dtype)
    x_trains, _, _, left_trains, core_trains, right_trains, *_ = ctx.needs_input_grad
    shape, drop_scale, scaling = ctx.options
    dB = dM = dA = dx = None
    dY = None if dy is None else as_rows(dy)
    dh, scale = dshort, 1.0  # their product is the gradient of A d(x)
    if dY is not None:
        dh, scale = times(dY, left), scaling
        if left_trains:
            dB = outer(
                dY, short if core is None else times(short, core.T), scale=scaling, like=left
            )
        if core is not None:
            dM = _product(dh.T, short, scale=scaling, like=core) if core_trains else None
            dh = times(dh, core)
        if dshort is not None:
            dh, scale = dh * scaling + dshort, 1.0
    assert dh is not None
    if right_trains:
        X = as_rows(x)
        X = X if mask is None else drop(X, mask, drop_scale)
        dA = _product(dh.T, X, scale=scale, like=right)
    if x_trains:
        change = (dh, right, scale)
        dx = input_gradient(dY, weight, change, mask, drop_scale).view(shape)
    return dx, None, None, dB, dM, dA, None, None


def input_gradient(
    dY: Tensor | None,
    weight: Tensor,
    change: tuple[Tensor, Tensor, float],
    mask: Tensor | None,
    drop_scale: float,
) -> Tensor:
    """Return dY W + d(s k A), all rows, ``change`` being k (N, r), A and s."""
    k, A, scale = change
    if dY is None:
        dX = k @ A
        return dX if mask is None else drop(dX, mask, drop_scale)
    dX = torch.mm(dY, in_dtype(weight, dY.dtype))
    if mask is None:
        return dX.addmm_(k, A, alpha=scale)
    return dX.add_(drop(k @ A, mask, drop_scale), alpha=scale)


def drop(X: Tensor, mask: Tensor, scale: float) -> Tensor:
    """Drop what a mask drops, and multiply the rest."""
    return torch.ops.aten.native_dropout_backward(X, mask, scale)


def times(rows: Tensor, matrix: Tensor) -> Tensor:
    """Return rows (N, n) times a matrix (n, r) with few columns."""
    if rows.is_cpu:
        # Up to three times as fast there as a flat matrix times a narrow one.
        return torch.mm(matrix.T, rows.T).T
    return torch.mm(rows, matrix)


def outer(rows: Tensor, short: Tensor, *, scale: float = 1.0, like: Tensor | None = None) -> Tensor:
    """Return s times the transpose of rows (N, n) times short (N, r), as :func:`_product` does."""
    if not rows.is_cpu:
        return _product(rows.T, short, scale=scale, like=like)
    like = None if like is None else like.T
    return _product(short.T, rows, scale=scale, like=like).T


def _product(left: Tensor, right: Tensor, *, scale: float, like: Tensor | None) -> Tensor:
    """Return s left right by one operation; ``like`` is of that shape, and is not read."""
    if scale == 1 or like is None:
        return torch.mm(left, right)
    return torch.addmm(like, left, right, beta=0, alpha=scale)


def is_under_autocast(x: Tensor) -> bool:
    """Tell whether products with x are cast."""
    # The meta device, where a run is rehearsed, has no autocast to ask for.
    return not x.is_meta and torch.is_autocast_enabled(x.device.type)
