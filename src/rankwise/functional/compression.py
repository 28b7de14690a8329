"""A sum of low-rank changes, such as a chain of adapters, brought to one rank in closed form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from rankwise.functional.arguments import ArgumentError, check_factors, check_matrix, working_dtype


@torch.no_grad()
def compress(factors: Sequence[tuple[Tensor, Tensor]], r: int) -> tuple[Tensor, Tensor, float]:
    """Bring ΔW = Σ B_i A_i to the nearest change of rank r, shared evenly between B and A.

    With [B_1 B_2 …] = Q_B T_B and [A_1; A_2; …]ᵀ = Q_A T_A, the singular values of ΔW are those of
    the small T_B T_Aᵀ = U S Vᵀ: B = Q_B U √S and A = √S Vᵀ Q_Aᵀ. ΔW itself is never formed.

    Args:
        factors: Pairs of B_i (out, r_i) and A_i (r_i, in); the r_i may differ.
        r: Rank of the result. Beyond Σ r_i nothing is lost and the rest is filled with zeros.

    Returns:
        B (out, r), A (r, in), in the widest dtype of the factors and float32 at least, and the
        relative error ‖ΔW − B A‖_F / ‖ΔW‖_F (0.0 for ΔW = 0).

    Raises:
        ValueError: There are no factors, their shapes do not fit, a value is not finite, or r < 1.

    Example:
        >>> first = torch.tensor([[4.0], [0.0]]), torch.tensor([[1.0, 0.0]])
        >>> second = torch.tensor([[0.0], [3.0]]), torch.tensor([[0.0, 1.0]])
        >>> B, A, error = compress([first, second], 1)
        >>> round(error, 3)
        0.6
    """
    if not (isinstance(r, int) and r >= 1):
        raise ArgumentError(f"r must be an integer of at least 1, got {r!r}")
    stacked_B, stacked_A = _concatenated(factors)
    basis_B, triangle_B = torch.linalg.qr(stacked_B)
    basis_A, triangle_A = torch.linalg.qr(stacked_A.T)
    U, S, Vh = torch.linalg.svd(triangle_B @ triangle_A.T, full_matrices=False)
    root = S[:r].sqrt()
    B = (basis_B @ U[:, :r]) * root
    A = root.unsqueeze(1) * (Vh[:r] @ basis_A.T)
    missing = r - len(root)
    if missing > 0:
        B, A = pad(B, (0, missing)), pad(A, (0, 0, 0, missing))
    return B, A, _relative_error(S, r)


@torch.no_grad()
def compress_each(B: Tensor, A: Tensor, r: int) -> tuple[Tensor, Tensor, float]:
    """Bring ΔW = B A, or each matrix of a stack, to rank r as :func:`compress` does.

    Args:
        B: Shape (out, k), or (experts, out, k).
        A: Shape (k, in), or (experts, k, in).
        r: Rank of the result.

    Returns:
        B and A of rank r, and the relative error of all matrices together.
    """
    if B.ndim == 2:
        return compress([(B, A)], r)
    found = [compress([(left, right)], r) for left, right in zip(B, A, strict=True)]
    norms = torch.linalg.norm(torch.linalg.qr(B.double()).R @ A.double(), dim=(-2, -1))
    errors = norms.new_tensor([error for _, _, error in found])
    total = norms.norm()
    error = float((errors * norms).norm() / total) if total > 0 else 0.0
    return torch.stack([left for left, _, _ in found]), torch.stack([a for _, a, _ in found]), error


@torch.no_grad()
def without_excess_rank(B: Tensor, A: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``B`` and ``A`` with no more columns and rows than ΔW = B A can have rank.

    Beyond the smaller side of ΔW further columns add nothing: a chain of twenty blocks of rank 8 on
    a layer of 64 × 64 has 160. With B = Q T (or Aᵀ = Q T) the pair becomes Q, T A (or B Tᵀ, Qᵀ),
    computed in float64 and as exact as the rounding of the result to the dtype of ``B``.

    Args:
        B: Shape (out, k), or (experts, out, k).
        A: Shape (k, in), or (experts, k, in).

    Returns:
        B (out, m) and A (m, in) with m = min(k, out, in); the same tensors where k is that already.
    """
    out_features, in_features = B.shape[-2], A.shape[-1]
    if A.shape[-2] <= min(out_features, in_features):
        return B, A
    if out_features <= in_features:
        Q, T = torch.linalg.qr(B.double())
        return Q.to(B.dtype), (T @ A.double()).to(A.dtype)
    Q, T = torch.linalg.qr(A.mT.double())
    return (B.double() @ T.mT).to(B.dtype), Q.mT.to(A.dtype)


def _concatenated(factors: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    if not factors:
        raise ArgumentError("factors is empty: give at least one pair (B, A)")
    shape = (factors[0][0].shape[0], factors[0][1].shape[-1])
    for B, A in factors:
        check_factors(B, A, shape)
    dtype = working_dtype(*(factor for pair in factors for factor in pair))
    stacked_B = torch.cat([B.to(dtype) for B, _ in factors], dim=1)
    stacked_A = torch.cat([A.to(dtype) for _, A in factors], dim=0)
    check_matrix(stacked_B, "B")
    check_matrix(stacked_A, "A")
    return stacked_B, stacked_A


def _relative_error(singular_values: Tensor, r: int) -> float:
    lost, total = singular_values[r:].norm(), singular_values.norm()
    return float(lost / total) if total > 0 else 0.0


def compress_above(
    factors: Mapping[str, tuple[Tensor, Tensor]], r: int | None
) -> tuple[dict[str, tuple[Tensor, Tensor]], dict[str, float]]:
    """Compress those of several products that have a larger rank than ``r``; None: none of them.

    Args:
        factors: B (..., out, k) and A (..., k, in) of each, by name.
        r: The rank.

    Returns:
        The factors of all, and by name the relative Frobenius errors of what was compressed.

    Raises:
        ValueError: As of :func:`compress_each`.
    """
    compressed, errors = dict(factors), dict[str, float]()
    for name, (B, A) in factors.items():
        if r is not None and A.shape[-2] > r:
            B, A, errors[name] = compress_each(B, A, r)
            compressed[name] = B, A
    return compressed, errors
