"""LoRA-SB: what a gradient of the core between two frozen factors amounts to, and the best one.

Ponkshe et al. (2024), arXiv 2411.19557, Lemma 2 and Theorems 3 and 5. With ΔW = s B R A and g the
gradient of the whole weight, backpropagation gives the core

    g_R = s Bᵀ g Aᵀ,    a step along which moves the weight along    s B g_R A.

The core's gradient whose step is nearest to g is g_R* = s⁻² (BᵀB)⁻¹ g_R (AAᵀ)⁻¹; its step moves the
weight along P_B g P_A whatever s is. With orthonormal factors and s = 1, where LoRA-SB begins, the
two are one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rankwise.functional.arguments import ArgumentError, check_factors, check_matrix


def corrected_core_gradient(
    core_gradient: Tensor, B: Tensor, A: Tensor, *, scaling: float = 1.0
) -> Tensor:
    """Correct the gradient of the core so that its step is the nearest to that of the weight.

    g_R* = s⁻² (BᵀB)⁺ g_R (AAᵀ)⁺, the least of those that are nearest where a factor has not full
    rank (Theorem 3).

    Args:
        core_gradient: g_R (r, r).
        B: Frozen factor (out, r).
        A: Frozen factor (r, in).
        scaling: s, not zero.

    Returns:
        g_R* (r, r).

    Raises:
        ValueError: The shapes do not fit, a value is not finite, or ``scaling`` is zero.

    Example:
        >>> B, A = torch.tensor([[2.0], [0.0]]), torch.tensor([[0.0, 1.0]])
        >>> corrected_core_gradient(torch.tensor([[6.0]]), B, A)
        tensor([[1.5000]])
    """
    _check(core_gradient, B, A)
    if scaling == 0:
        raise ArgumentError("scaling must not be 0: no step of the core moves the weight then")
    left = torch.linalg.pinv(B.T @ B, hermitian=True)
    right = torch.linalg.pinv(A @ A.T, hermitian=True)
    return left @ core_gradient @ right / scaling**2


def equivalent_gradient(
    core_gradient: Tensor, B: Tensor, A: Tensor, *, scaling: float = 1.0
) -> Tensor:
    """Compute the direction in which a step along a gradient of the core moves the weight.

    s B g_R A, (out, in). Of a corrected gradient it is P_B g P_A, whatever s is (Theorem 5).

    Args:
        core_gradient: g_R (r, r).
        B: Frozen factor (out, r).
        A: Frozen factor (r, in).
        scaling: s.

    Raises:
        ValueError: The shapes do not fit, or a value is not finite.

    Example:
        >>> B, A = torch.tensor([[2.0], [0.0]]), torch.tensor([[0.0, 1.0]])
        >>> equivalent_gradient(torch.tensor([[1.5]]), B, A)
        tensor([[0., 3.],
                [0., 0.]])
    """
    _check(core_gradient, B, A)
    return scaling * B @ core_gradient @ A


def _check(core_gradient: Tensor, B: Tensor, A: Tensor) -> None:
    check_factors(B, A)
    r = B.shape[1]
    if core_gradient.shape != (r, r):
        raise ArgumentError(
            f"core_gradient must have shape {(r, r)}, as B {tuple(B.shape)} and A "
            f"{tuple(A.shape)} ask, got {tuple(core_gradient.shape)}"
        )
    for name, matrix in (("core_gradient", core_gradient), ("B", B), ("A", A)):
        check_matrix(matrix, name)
