"""A frozen linear layer and DeLoRA's change beside it, as one step of autograd.

    y = W x + b + λ (B̂ h₁ + (B̂ - B̂₀) h₂),    h₁ = (Â - Â₀) N x,    h₂ = Â₀ N x,    N = diag(n) / r

At the start both differences are exactly zero. With k = B̂ᵀ dy, h = h₁ + h₂ and q = ⟨k, h⟩, a number
a direction, summed over the inputs,

    dA = λ (k xᵀ N - Â q) / ‖a‖,    dB = λ (dy hᵀ - B̂ q) / ‖b‖

so that the part of a gradient along a direction, which does not count, comes from the short
vectors. That of λ is ⟨[B̂, B̂ - B̂₀]ᵀ dy xᵀ, [Â - Â₀; Â₀] N⟩.

Beside an accelerator, where each operation takes the host as long as a large one takes the device,
what is made of the frozen half is made once, and the factors of a step are kept for its backward
pass. On a CPU they cost next to nothing and are made again: it keeps x and h.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn.functional import linear

from rankwise.methods.adapters.fused_linear import (
    as_rows,
    drop,
    in_dtype,
    input_gradient,
    is_under_autocast,
    outer,
    run_step,
    scale_of_dropout,
    start_of_output,
    times,
)

SMALLEST_LENGTH = 1e-12  # that of torch.nn.functional.normalize


def lengths_of(matrix: Tensor, dim: int) -> Tensor:
    """Return the norms along a dimension, none of them zero."""
    norms = torch.linalg.vector_norm(matrix, dim=dim, keepdim=True)
    return norms.clamp(min=SMALLEST_LENGTH)


def frozen_half(start: list[Tensor], dtype: torch.dtype) -> list[Tensor]:
    """Return -Â₀, -B̂₀, n / r and, in ``dtype``, Â₀ N from A₀, B₀ and n."""
    A0, B0, norms = start
    A0, B0, norms = A0 / lengths_of(A0, -1), B0 / lengths_of(B0, -2), norms / A0.shape[-2]
    return [-A0, -B0, norms, (A0 * norms).to(dtype)]


def keeps_factors(x: Tensor) -> bool:
    """Tell whether operations are dearer, where x is, than the memory of what they make."""
    return not x.is_cpu


def fused_delora(
    base: nn.Module,
    x: Tensor,
    trained: list[Tensor],
    frozen: list[Tensor],
    *,
    dtype: torch.dtype,
    dropout: float,
) -> Tensor:
    """Return the output, in ``dtype``, of a layer whose change has A, B and λ.

    Args:
        base: The frozen ``nn.Linear``.
        x: (..., in).
        trained: A, B and λ.
        frozen: A₀, B₀ and n, or what :func:`frozen_half` makes of them.
        dtype: That of all products.
        dropout: With which probability an input of the change is dropped.
    """
    parameters, x = base._parameters, in_dtype(x, dtype)
    inputs = (x, parameters["weight"], parameters["bias"], *trained, *frozen, dropout)
    return run_step(_FusedDelora, inputs)


class _FusedDelora(Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        x, weight, bias, A, B, strength, *frozen, dropout = inputs
        X = as_rows(x)
        dropped, mask = torch.native_dropout(X, dropout, True) if dropout else (X, None)
        left, right, _ = factors = _factors(A, B, _half_in(frozen, x.dtype))
        short = times(dropped, right.T)
        h1, h2 = short.chunk(2, dim=1)
        ctx.drop_scale = scale_of_dropout(dropout)
        kept = factors if keeps_factors(x) else (None, None, None)
        ctx.save_for_backward(*inputs[:-1], mask, h1 + h2, *kept)
        y, Y = start_of_output(x, X, weight, bias)
        Y.addmm_(_scaled(short, strength), left.T)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        (dy,) = gradients
        if is_under_autocast(dy):  # whoever calls backward under autocast
            with torch.autocast(dy.device.type, enabled=False):
                return _FusedDelora.backward(ctx, dy)
        *inputs, mask, h, left, right, lengths = ctx.saved_tensors
        if torch.is_grad_enabled():
            return _differentiable_gradients(ctx, inputs, mask, dy)
        x, weight, _, A, B, strength, *frozen = inputs
        half = _half_in(frozen, x.dtype)
        if left is None:
            left, right, lengths = _factors(A, B, half)
        x_trains, _, _, A_trains, B_trains, strength_trains, *_ = ctx.needs_input_grad
        dx = dA = dB = dstrength = None
        dY = as_rows(dy)
        k = times(dY, left)
        k1, _ = k.chunk(2, dim=1)
        along = (k1 * h).sum(dim=0, dtype=A.dtype)
        by_length = strength / lengths
        along_A, along_B = ((by_length / lengths) * along).unbind()
        by_length_A, by_length_B = by_length.unbind()
        if A_trains or strength_trains:
            X = as_rows(x)
            D = torch.mm(k.T, X if mask is None else drop(X, mask, ctx.drop_scale))
            dstrength = (D * right).sum(dtype=strength.dtype).view_as(strength)
            dA = D[: len(A)] * half[2]
            dA.mul_(by_length_A.unsqueeze(1)).addcmul_(A, along_A.unsqueeze(1), value=-1)
        if B_trains:
            dB = (outer(dY, h) * by_length_B).addcmul_(B, along_B, value=-1)
        if x_trains:
            change = (_scaled(k, strength), right, 1.0)
            dx = input_gradient(dY, weight, change, mask, ctx.drop_scale).view(x.shape)
        return dx, None, None, dA, dB, dstrength, *(None for _ in frozen), None


def _half_in(frozen: list[Tensor], dtype: torch.dtype) -> list[Tensor]:
    """Return what :func:`frozen_half` gives, made already or not."""
    return frozen_half(frozen, dtype) if len(frozen) == 3 else frozen


def _factors(A: Tensor, B: Tensor, half: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Return [B̂, B̂ - B̂₀], [Â - Â₀; Â₀] N, rounded once, and the lengths of A's and B's (2, r)."""
    minus_A0, minus_B0, norms, right_half = half
    r, dtype = A.shape[0], right_half.dtype
    lengths = A.new_empty((2, r))
    of_A, of_B = lengths.unbind()
    torch.linalg.vector_norm(A, dim=1, out=of_A)
    torch.linalg.vector_norm(B, dim=0, out=of_B)
    lengths.clamp_(min=SMALLEST_LENGTH)
    right = A.new_empty((2, *A.shape), dtype=dtype)
    moved, start = right.unbind()
    torch.mul(_difference(A, of_A.unsqueeze(1), minus_A0), norms, out=moved)
    start.copy_(right_half)
    left = B.new_empty((B.shape[0], 2 * r), dtype=dtype)
    unit, difference = left.chunk(2, dim=1)
    torch.div(B, of_B, out=unit)
    _difference(B, of_B, minus_B0, out=difference)
    return left, right.view(2 * r, -1), lengths


def _difference(
    matrix: Tensor, lengths: Tensor, minus: Tensor, *, out: Tensor | None = None
) -> Tensor:
    """Return the unit vectors plus ``minus``: exactly zero where that is the negative of them."""
    if matrix.dtype in (torch.float32, torch.float64):
        return torch.addcdiv(minus, matrix, lengths, out=out)
    return torch.add(matrix / lengths, minus, out=out)  # one operation would not round between


def _scaled(short: Tensor, strength: Tensor) -> Tensor:
    return torch.mul(short, strength, out=torch.empty_like(short))


def _differentiable_gradients(
    ctx: Any, inputs: list[Tensor], mask: Tensor | None, dy: Tensor
) -> tuple[Tensor | None, ...]:
    """Return the gradients by operations that have derivatives themselves."""
    x, weight, bias, A, B, strength, *frozen = inputs
    minus_A0, minus_B0, norms, _ = _half_in(frozen, x.dtype)
    A, B = A / lengths_of(A, -1), B / lengths_of(B, -2)
    left = torch.cat([B, B + minus_B0], dim=1)
    right = torch.cat([A + minus_A0, -minus_A0]) * (strength * norms)
    dropped = x if mask is None else drop(x.reshape(mask.shape), mask, ctx.drop_scale).view_as(x)
    y = linear(x, weight.to(x.dtype), None if bias is None else bias.to(x.dtype))
    y = y + linear(linear(dropped, right.to(x.dtype)), left.to(x.dtype))
    flags = ctx.needs_input_grad
    wanted = [each for each, is_wanted in zip(inputs, flags, strict=False) if is_wanted]
    found = iter(torch.autograd.grad(y, wanted, dy, create_graph=True))
    return tuple(next(found) if is_wanted else None for is_wanted in flags)
