"""How large a change is beside the weight that it changes."""

from __future__ import annotations

import torch
from torch import Tensor


def relative_norm(B: Tensor, A: Tensor, weight: Tensor) -> Tensor:
    """Return ‖B A‖_F / ‖W‖_F in float32 at least: infinite where only the weight is zero.

    The dense product is never made: ‖B A‖ = ‖R A‖ where B = Q R with orthonormal Q.

    Raises:
        ValueError: B (out, r), A (r, in) and the weight (out, in), or stacks of them, do not fit.

    Example:
        >>> B, A = torch.tensor([[1.0]]), torch.tensor([[3.0, 4.0]])
        >>> relative_norm(B, A, torch.tensor([[0.0, 10.0]]))
        tensor(0.5000)
    """
    if B.shape[-1] != A.shape[-2] or (*B.shape[:-1], A.shape[-1]) != weight.shape:
        raise ValueError(
            f"B A must have the shape of the weight, got B {tuple(B.shape)}, A {tuple(A.shape)} "
            f"and a weight of shape {tuple(weight.shape)}"
        )
    dtype = torch.promote_types(torch.promote_types(B.dtype, weight.dtype), torch.float32)
    return product_norm(B, A) / torch.linalg.vector_norm(weight, dtype=dtype)


def product_norm(B: Tensor, A: Tensor) -> Tensor:
    """Return ‖B A‖_F in float32 at least, without the product.

    Of B (out, k) and A (k, in), or of stacks of them all together.

    Example:
        >>> product_norm(torch.tensor([[1.0]]), torch.tensor([[3.0, 4.0]]))
        tensor(5.)
    """
    dtype = torch.promote_types(B.dtype, torch.float32)
    B, A = B.to(dtype), A.to(dtype)
    if B.shape[-1] > min(B.shape[-2], A.shape[-1]):  # a long chain: the product is smaller
        return torch.linalg.norm(B @ A)
    if B.device.type == "cuda":  # where a decomposition of B takes longer than all else here
        return norm_by_grams(B, A).to(dtype)
    return torch.linalg.norm(torch.linalg.qr(B).R @ A)


def norm_by_grams(B: Tensor, A: Tensor) -> Tensor:
    """Return ‖B A‖_F in float64 as √⟨BᵀB, AAᵀ⟩, within 1e-8 ‖B‖ ‖A‖.

    Example:
        >>> norm_by_grams(torch.tensor([[1.0]]), torch.tensor([[3.0, 4.0]]))
        tensor(5., dtype=torch.float64)
    """
    B, A = B.double(), A.double()
    return ((B.mT @ B) * (A @ A.mT)).sum().clamp_min(0).sqrt()
