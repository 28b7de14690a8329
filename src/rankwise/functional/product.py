"""A matrix that is known as a product of two and is never formed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Product:
    """M = L R with L (m, k) and R (k, n), of one dtype; M V is L (R V).

    A weight's gradient is one, dYᵀ X over k tokens, and its products with few vectors cost less
    than the gradient itself.

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
        """That of both."""
        return self.left.dtype

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

    def dense(self) -> Tensor:
        """Form M."""
        return self.left @ self.right

    def pays(self, vectors: int) -> bool:
        """Tell whether that many products with vectors cost less so than through M, formed first.

        k (m + n) each, against m n each and k m n before.
        """
        (m, n), k = self.shape, self.right.shape[0]
        return vectors * k * (m + n) < m * n * (vectors + k)


def times(matrix: Tensor | Product, vectors: Tensor) -> Tensor:
    """Return M V for few vectors, the columns of V, with M read in the order in which it lies.

    On a CPU a transposed M takes up to twice as long as its transpose from the other side.
    """
    if isinstance(matrix, Tensor) and matrix.stride(1) != 1:
        return (vectors.T @ matrix.T).T
    return matrix @ vectors
