"""DeLoRA: a low-rank change whose strength λ is a parameter of its own.

Bini, Girrbach and Akata (2025), arXiv 2503.18225, Eqs. 5, 8, 9 and 15. As in the authors' code, and
unlike the formulas, column j of the change is scaled by ‖W₍:,ⱼ₎‖ rather than all by ‖W‖_F, and the
current λ multiplies the frozen initial term too: λ = 0 always gives the base weight back.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rankwise.functional.arguments import ArgumentError, check_factors


def delora_delta(
    B: Tensor,
    A: Tensor,
    delora_lambda: Tensor | float,
    column_norms: Tensor,
    *,
    B0: Tensor | None = None,
    A0: Tensor | None = None,
) -> Tensor:
    """Compute the dense change ΔW (out, in) of a DeLoRA adapter.

    ΔW = [B Ξ(B, A) A − B0 Ξ(B0, A0) A0] diag(column_norms),  Ξ = λ/r · diag(1 / (‖b_i‖ ‖a_i‖)),
    without the second term where B0 and A0 are not given. Each term has a Frobenius norm of at most
    λ · max(column_norms), hence ΔW one of at most twice that; it is 0 where B0 = B and A0 = A.

    Args:
        B: Factor (out, r) with columns b_i.
        A: Factor (r, in) with rows a_i.
        delora_lambda: λ, a number or a tensor of one element.
        column_norms: ‖W₍:,ⱼ₎‖ of the base weight (in,), taken once when the adapter is made.
        B0: Frozen initial B, of the same shape.
        A0: Frozen initial A, of the same shape.

    Raises:
        ValueError: The shapes do not fit, or only one of B0 and A0 is given.

    Example:
        >>> B, A = torch.tensor([[3.0], [4.0]]), torch.tensor([[0.0, 2.0]])
        >>> delora_delta(B, A, 10.0, torch.ones(2))
        tensor([[0., 6.],
                [0., 8.]])
    """
    check_factors(B, A)
    if column_norms.shape != A.shape[1:]:
        raise ArgumentError(
            f"column_norms must have shape {tuple(A.shape[1:])}, one norm for each column of the "
            f"weight, got {tuple(column_norms.shape)}"
        )
    if (B0 is None) != (A0 is None):
        raise ArgumentError("B0 and A0 belong together: give both or neither")
    core = (B * delora_gains(B, A, delora_lambda)) @ A
    if B0 is not None and A0 is not None:
        check_factors(B0, A0, (B.shape[0], A.shape[1]))
        core = core - (B0 * delora_gains(B0, A0, delora_lambda)) @ A0
    return core * column_norms


def delora_gains(
    B: Tensor, A: Tensor, delora_lambda: Tensor | float, *, minimum_norm: float = 0.0
) -> Tensor:
    """Compute the diagonal of Ξ, λ/r / (‖b_i‖ ‖a_i‖), shape (r,), for B (out, r) and A (r, in).

    A component with b_i = 0 or a_i = 0 has no direction: its gain is 0, and so is its gradient.
    ``minimum_norm`` bounds every norm from below instead; PEFT's DeLoRA does so with 1e-4.
    """
    inverse_norms = _inverse_norms(B.T, minimum_norm) * _inverse_norms(A, minimum_norm)
    return delora_lambda / A.shape[0] * inverse_norms


def _inverse_norms(rows: Tensor, minimum_norm: float) -> Tensor:
    squares = rows.square().sum(dim=1).clamp(min=minimum_norm**2)
    # rsqrt(inf) is 0 with gradient 0, where 1/0 would send NaN through the backward pass.
    return torch.where(squares > 0, squares, torch.inf).rsqrt()
