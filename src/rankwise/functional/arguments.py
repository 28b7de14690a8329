"""What the formulas ask of their arguments, said once so that every message reads alike."""

from __future__ import annotations

import torch
from torch import Tensor

from rankwise.functional.product import Product


class ArgumentError(ValueError):
    """An argument is not one that the formula has a value for."""


def working_dtype(*tensors: Tensor) -> torch.dtype:
    """The dtype to compute in: the widest of ``tensors``, and float32 at least."""
    dtype = torch.float32
    for tensor in tensors:
        dtype = torch.promote_types(dtype, tensor.dtype)
    return dtype


def check_rank(r: int, limit: int, limit_name: str) -> None:
    """Refuse a rank that does not fit; ``limit_name`` says which side of what sets the limit."""
    if not (isinstance(r, int) and 1 <= r <= limit):
        raise ArgumentError(f"r must be between 1 and {limit} ({limit_name}), got {r!r}")


def check_matrix(matrix: Tensor | Product, name: str) -> None:
    """Refuse what is not a matrix of finite real numbers."""
    _finite_norms(matrix, name)


def check_gradient(gradient: Tensor | Product) -> None:
    """Refuse a gradient without a direction: not a finite matrix, or zero everywhere."""
    for factor, norm in _finite_norms(gradient, "gradient"):
        # A norm may have underflown.
        if norm == 0 and not factor.any():
            raise ArgumentError(
                "gradient is zero everywhere, so it has no direction: "
                "check that the loss depends on this layer"
            )


def _finite_norms(matrix: Tensor | Product, name: str) -> list[tuple[Tensor, Tensor]]:
    """Return the matrix, or the two factors of a product, each with its norm."""
    if isinstance(matrix, Product):
        return [*_finite_norms(matrix.left, name), *_finite_norms(matrix.right, name)]
    if matrix.ndim != 2 or not matrix.is_floating_point():
        raise ArgumentError(
            f"{name} must be a floating-point matrix (out, in), "
            f"got shape {tuple(matrix.shape)} and {matrix.dtype}"
        )
    # A finite norm costs one reading; only an infinite one, which may be an overflow, costs more.
    norm = torch.linalg.vector_norm(matrix, dtype=working_dtype(matrix))
    if not (norm.isfinite() or matrix.isfinite().all()):
        raise ArgumentError(f"{name} holds NaN or infinite values: find where they arise")
    return [(matrix, norm)]


def check_factors(B: Tensor, A: Tensor, shape: tuple[int, ...] | None = None) -> None:
    """Refuse factors that do not multiply to a matrix, or not to one of ``shape`` (out, in)."""
    fits = B.ndim == A.ndim == 2 and B.shape[1] == A.shape[0]
    if not fits or (shape is not None and (B.shape[0], A.shape[1]) != shape):
        target = "" if shape is None else f" whose product has shape {tuple(shape)}"
        raise ArgumentError(
            f"B must be (out, r) and A (r, in){target}, "
            f"got B {tuple(B.shape)} and A {tuple(A.shape)}"
        )
