"""DeLoRA's change beside a frozen linear layer, as one step of autograd (see ``fused.py``).

    ΔW = [B̂, B̂ - B̂₀] [Â - Â₀; Â₀] diag(s),      s = (λ / r) n

With h = Â s x, which is the sum of the two short vectors that the forward pass computes,

    dB̂ = dy hᵀ,    D = [B̂, B̂ - B̂₀]ᵀ dy xᵀ diag(n),    dλ = ⟨D, [Â - Â₀; Â₀]⟩ / r

and dÂ is the upper half of D times λ / r. The gradients of a row a and of its direction â are
related by da = (dâ - â ⟨dâ, â⟩) / ‖a‖. Only x, h and what the adapter is made of are kept for the
backward pass.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from rankwise.methods.adapters.fused import columns_of, input_gradient, linear_plus

_SMALLEST_NORM = 1e-12  # that of torch.nn.functional.normalize


def delora_factors(
    A: Tensor, B: Tensor, strength: Tensor, A0: Tensor, B0: Tensor, norms: Tensor
) -> tuple[Tensor, Tensor]:
    """Return ([B̂, B̂ - B̂₀], (λ / r) [Â - Â₀; Â₀] diag(n)), of rank 2r.

    B̂ Â - B̂₀ Â₀ = B̂ (Â - Â₀) + (B̂ - B̂₀) Â₀: so the differences are taken between small factors
    and not between two large products. The start is exactly zero, and in bfloat16 the rounding
    errors are those of the change alone.
    """
    left, rows = _directions(A, B, A0, B0)
    return left, rows * (strength / len(A) * norms)


def fused_delora(base: nn.Module, x: Tensor, parts: list[Tensor]) -> Tensor:
    """Return W x + b + ΔW x; ``parts`` are A, B, λ and the fixed A₀, B₀ and n.

    The layer must be one that :func:`rankwise.methods.adapters.fused.is_fusable` accepts.
    """
    linear: Any = base
    return _FusedDelora.apply(x, linear.weight, linear.bias, *parts)  # type: ignore[return-value]


class _FusedDelora(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, *parts: Tensor) -> Tensor:
        left, right = delora_factors(*parts)
        r = len(parts[0])
        short = right @ columns_of(x, right)
        ctx.save_for_backward(x, short[:r] + short[r:], weight, *parts)
        return linear_plus(x, weight, bias, left, short)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, h, weight, *parts = ctx.saved_tensors
        A, B, strength, A0, B0, norms = parts
        left, rows = _directions(A, B, A0, B0)
        scale = strength / len(A)
        dY = columns_of(dy, left)
        k = left.T @ dY
        dx = None
        if ctx.needs_input_grad[0]:
            dx = input_gradient(dy, weight, rows * (scale * norms), k, x.shape)
        D = (k @ columns_of(x, rows).T) * norms
        dA = _row_gradient(A, D[: len(A)] * scale)
        dB = _row_gradient(B.T, h @ dY.T).T
        dstrength = ((D * rows).sum() / len(A)).view_as(strength)
        return dx, None, None, dA, dB, dstrength, None, None, None


def _directions(A: Tensor, B: Tensor, A0: Tensor, B0: Tensor) -> tuple[Tensor, Tensor]:
    A, A0 = _unit_rows(A), _unit_rows(A0)
    B, B0 = _unit_rows(B.T).T, _unit_rows(B0.T).T
    return torch.cat([B, B - B0], dim=1), torch.cat([A - A0, A0])


def _unit_rows(matrix: Tensor) -> Tensor:
    return nn.functional.normalize(matrix, dim=1, eps=_SMALLEST_NORM)


def _row_gradient(rows: Tensor, gradient: Tensor) -> Tensor:
    """Return the gradient of rows from that of their directions."""
    norms = torch.linalg.vector_norm(rows, dim=1, keepdim=True).clamp(min=_SMALLEST_NORM)
    unit = rows / norms
    return (gradient - unit * (gradient * unit).sum(dim=1, keepdim=True)) / norms
