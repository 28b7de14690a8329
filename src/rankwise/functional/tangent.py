"""The tangent space of low-rank changes, and how much of a gradient falls outside it.

Near ΔW = B A every first-order change is dB A + B dA. The squared norm of what such changes cannot
follow is the "information loss" of ABM-LoRA (2025), arXiv 2511.19145, Fig. 1. It measures a
subspace, not a step: one gradient step on B and A moves W along B Bᵀ G + G Aᵀ A, not P_T(G).
Both functions measure; no gradient flows through them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rankwise.functional.arguments import (
    check_factors,
    check_gradient,
    check_matrix,
    working_dtype,
)


@torch.no_grad()
def tangent_projection(gradient: Tensor, B: Tensor, A: Tensor) -> Tensor:
    """Project a gradient on the tangent space {dB A + B dA}.

    P_T(G) = G − (I − P_B) G (I − P_A), with P_B and P_A the orthogonal projectors on the columns of
    B and on the rows of A. Factors may be rank-deficient or zero: with B = 0, as in a fresh LoRA,
    P_T(G) = G P_A. For full rank r the space has r (out + in − r) dimensions.

    Args:
        gradient: G (out, in).
        B: Factor (out, r).
        A: Factor (r, in).

    Returns:
        P_T(G) (out, in), in the widest of the three dtypes and float32 at least.

    Raises:
        ValueError: The shapes do not fit, or a value is not finite.

    Example:
        >>> tangent_projection(torch.ones(2, 2), torch.zeros(2, 1), torch.tensor([[1.0, 0.0]]))
        tensor([[1., 0.],
                [1., 0.]])
    """
    check_matrix(gradient, "gradient")
    return gradient - _outside(gradient, B, A)


@torch.no_grad()
def information_loss(gradient: Tensor, B: Tensor, A: Tensor, *, relative: bool = False) -> Tensor:
    """Measure what of a gradient lies outside the tangent space: ‖(I − P_B) G (I − P_A)‖_F².

    No rank-r adapter loses less than the sum of the squared singular values of G beyond the 2r-th.

    Args:
        gradient: G (out, in).
        B: Factor (out, r).
        A: Factor (r, in).
        relative: Divide by ‖G‖_F²: 0 is a gradient that the adapter follows, 1 one that it misses.

    Returns:
        A scalar, in the widest of the three dtypes and float32 at least.

    Raises:
        ValueError: The shapes do not fit, a value is not finite, or ``relative`` is asked of G = 0.

    Example:
        >>> gradient = torch.diag(torch.tensor([3.0, 1.0]))
        >>> information_loss(gradient, torch.zeros(2, 1), torch.tensor([[1.0, 0.0]]), relative=True)
        tensor(0.1000)
    """
    if not relative:
        check_matrix(gradient, "gradient")
        return _outside(gradient, B, A).square().sum()
    check_gradient(gradient)
    # Small gradients would underflow when squared.
    gradient = gradient.to(working_dtype(gradient)) / gradient.abs().max()
    return _outside(gradient, B, A).square().sum() / gradient.square().sum()


def _outside(gradient: Tensor, B: Tensor, A: Tensor) -> Tensor:
    """(I − P_B) G (I − P_A) without forming a projector."""
    check_factors(B, A, tuple(gradient.shape))
    dtype = working_dtype(gradient, B, A)
    left, right = _column_basis(B.to(dtype), "B"), _column_basis(A.T.to(dtype), "A")
    rest = gradient.to(dtype)
    rest = rest - left @ (left.T @ rest)
    return rest - (rest @ right) @ right.T


def _column_basis(factor: Tensor, name: str) -> Tensor:
    """Orthonormal basis of the column space; no column at all for a factor that is zero."""
    check_matrix(factor, name)
    U, S, _ = torch.linalg.svd(factor, full_matrices=False)
    threshold = max(factor.shape) * torch.finfo(factor.dtype).eps * S[0]
    return U[:, threshold < S]
