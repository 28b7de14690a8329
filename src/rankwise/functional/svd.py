"""Truncated singular value decomposition: exact for small matrices, searched for in large ones."""

from __future__ import annotations

import torch
from torch import Tensor

from rankwise.functional.arguments import check_matrix, check_rank, working_dtype
from rankwise.functional.krylov import BASIS_A_WIDTH, Matrix, Triplets, search_triplets

EXACT_SIDE = 256  # up to this smaller side the exact decomposition takes some milliseconds


@torch.no_grad()
def truncated_svd(
    matrix: Matrix,
    r: int,
    *,
    generator: torch.Generator | None = None,
    oversampling: int = 10,
    iterations: int = 32,
) -> Triplets:
    """Decompose a matrix into its r largest singular triplets, M ≈ U diag(S) Vᵀ.

    The decomposition is exact (``torch.linalg.svd``) where the smaller side of the matrix is at
    most 256 or at most 2 (r + oversampling), and where ``iterations`` blocks do not bring the
    randomised one within its tolerance (``krylov.py``).

    Args:
        matrix: M (m, n), floating point, finite; or a :class:`Product`, which is formed only where
            that is cheaper.
        r: Number of triplets.
        generator: Draws the starting block. Without one, a fresh generator with seed 0 does, so
            the result depends on the matrix alone. The global random state is never touched.
        oversampling: Columns beyond r with which the basis is begun anew when it grows too large.
        iterations: Most blocks before the exact decomposition takes over.

    Returns:
        U (m, r), S (r,) in descending order and Vᵀ (r, n), in the dtype of ``matrix`` and float32
        at least. In each column of U the entry largest in magnitude is positive.

    Raises:
        ValueError: ``matrix`` is not a finite matrix or ``r`` exceeds its smaller side.

    Example:
        >>> U, S, Vh = truncated_svd(torch.diag(torch.tensor([1.0, 3.0, 2.0])), 2)
        >>> S
        tensor([3., 2.])
    """
    check_matrix(matrix, "matrix")
    smaller_side = min(matrix.shape)
    check_rank(r, smaller_side, "the smaller side of the matrix")
    width = r + oversampling
    if isinstance(matrix, Tensor):
        matrix = matrix.to(working_dtype(matrix))
    elif not matrix.pays(BASIS_A_WIDTH * width):  # of both sides, in half the largest basis
        matrix = matrix.dense()
    triplets = None
    if smaller_side > max(EXACT_SIDE, 2 * width):
        triplets = search_triplets(
            matrix,
            r,
            width=width,
            iterations=iterations,
            generator=generator or torch.Generator().manual_seed(0),
        )
    if triplets is None:
        dense = matrix if isinstance(matrix, Tensor) else matrix.dense()
        U, S, Vh = torch.linalg.svd(dense, full_matrices=False)
        triplets = U[:, :r], S[:r], Vh[:r]
    return _with_fixed_signs(*triplets)


def _with_fixed_signs(U: Tensor, S: Tensor, Vh: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    largest = U.gather(0, U.abs().argmax(dim=0, keepdim=True)).squeeze(0)
    signs = torch.where(largest < 0, -1.0, 1.0).to(U.dtype)
    # LAPACK hands out transposed layouts, which safetensors refuses to write.
    return (U * signs).contiguous(), S, (Vh * signs.unsqueeze(1)).contiguous()
