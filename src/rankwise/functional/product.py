"""A matrix that is known as a product of two and is never formed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

ROWS_AT_A_TIME = 8192  # of factors in half precision, where they are widened to be multiplied


@dataclass(frozen=True)
class Product:
    """M = L R with L (m, k) and R (k, n), of one dtype; M V is L (R V).

    A weight's gradient is one, dYᵀ X over k tokens, and its products with few vectors cost less
    than the gradient itself. Factors in half precision stay so; their product is in float32.

    Example:
        >>> product = Product(torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0, 4.0]]))
        >>> product @ torch.tensor([[1.0], [1.0]])
        tensor([[ 7.],
                [14.]])
    """

    left: Tensor
    right: Tensor

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n)."""
        return self.left.shape[0], self.right.shape[1]

    @property
    def dtype(self) -> torch.dtype:
        """That of M: float32 at least."""
        return torch.promote_types(self.left.dtype, torch.float32)

    @property
    def device(self) -> torch.device:
        """That of both."""
        return self.left.device

    @property
    def T(self) -> Product:
        """Mᵀ = Rᵀ Lᵀ."""
        return Product(self.right.T, self.left.T)

    def __matmul__(self, vectors: Tensor) -> Tensor:
        return times(self.left, times(self.right, vectors))

    def widened(self) -> Product:
        """Return the same with factors in the dtype of M."""
        return Product(self.left.to(self.dtype), self.right.to(self.dtype))

    def dense(self) -> Tensor:
        """Form M, in its dtype; factors in half precision are accumulated in float32."""
        if self.left.dtype == self.dtype:
            return self.left @ self.right
        if self._is_multiplied_as_it_is:
            mm: Any = torch.mm
            return mm(self.left, self.right, out_dtype=self.dtype)
        if self.left.shape[1] <= ROWS_AT_A_TIME:
            return self.widened().dense()
        return self.add_to(torch.zeros(self.shape, dtype=self.dtype, device=self.device))

    def add_to(self, total: Tensor) -> Tensor:
        """Add M to ``total`` (m, n), of its dtype, in place."""
        if self.left.dtype == self.dtype:
            return total.addmm_(self.left, self.right)
        if self._is_multiplied_as_it_is:
            return total.add_(self.dense())
        rows = ROWS_AT_A_TIME
        for left, right in zip(self.left.split(rows, dim=1), self.right.split(rows), strict=True):
            total.addmm_(left.to(self.dtype), right.to(self.dtype))
        return total

    def pays(self, vectors: int) -> bool:
        """Tell whether that many products with vectors cost less so than through M, formed first.

        k (m + n) each, against m n each and k m n before.
        """
        (m, n), k = self.shape, self.right.shape[0]
        return vectors * k * (m + n) < m * n * (vectors + k)

    @property
    def _is_multiplied_as_it_is(self) -> bool:
        return has_wide_results(self.device)


def has_wide_results(device: torch.device) -> bool:
    """Tell whether matrices in half precision can be multiplied into float32 there."""
    return device.type == "cuda" and hasattr(torch.ops.aten.mm, "dtype")  # from torch 2.8 on


def times(matrix: Tensor | Product, vectors: Tensor) -> Tensor:
    """Return M V for few vectors, the columns of V, with M read in the order in which it lies.

    On a CPU a transposed M takes up to twice as long as its transpose from the other side.
    """
    if isinstance(matrix, Tensor) and matrix.stride(1) != 1:
        return (vectors.T @ matrix.T).T
    return matrix @ vectors
