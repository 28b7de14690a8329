"""Truncated singular value decomposition: exact for small matrices, searched for in large ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from rankwise.functional.arguments import check_matrix, check_rank, working_dtype
from rankwise.functional.filtered import exact_products, filter_triplets
from rankwise.functional.krylov import BASIS_A_WIDTH, Matrix, Triplets, search_triplets

EXACT_SIDE = 256  # up to this smaller side the exact decomposition takes some milliseconds
Blocks = Literal["auto", "narrow", "wide"]


def truncated_svd(
    matrix: Matrix,
    r: int,
    *,
    generator: torch.Generator | None = None,
    oversampling: int = 10,
    iterations: int = 32,
    blocks: Blocks = "auto",
) -> Triplets:
    """Decompose a matrix into its r largest singular triplets, M ≈ U diag(S) Vᵀ.

    The decomposition is exact (``torch.linalg.svd``) where the smaller side of the matrix is at
    most 256 or at most 2 (r + oversampling), and where ``iterations`` blocks do not bring the
    randomised one within its tolerance, ‖M v − σ u‖ <= 0.1 σ.

    Args:
        matrix: M (m, n), floating point, finite; or a :class:`Product`, which is formed only where
            that is cheaper.
        r: Number of triplets.
        generator: Draws the starting block. Without one, a fresh generator with seed 0 does, so
            the result depends on the matrix alone. The global random state is never touched.
        oversampling: Columns beyond r with which the basis is begun anew when it grows too large.
        iterations: Most blocks before the exact decomposition takes over.
        blocks: ``"narrow"`` keeps many narrow blocks (``krylov.py``), ``"wide"`` refines a wide one
            (``filtered.py``); ``"auto"`` is narrow on a CPU and wide on an accelerator.

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
    (triplets,) = truncated_svds(
        [matrix],
        r,
        generators=[generator],
        oversampling=oversampling,
        iterations=iterations,
        blocks=blocks,
    )
    return triplets


@torch.no_grad()
def truncated_svds(
    matrices: Sequence[Matrix],
    r: int,
    *,
    generators: Sequence[torch.Generator | None],
    oversampling: int = 10,
    iterations: int = 32,
    blocks: Blocks = "auto",
) -> list[Triplets]:
    """Decompose several matrices of one shape, dtype and device as :func:`truncated_svd` does one.

    With wide blocks their small factorizations are made together.
    """
    first = matrices[0]
    for matrix in matrices:
        check_matrix(matrix, "matrix")
        check_rank(r, min(matrix.shape), "the smaller side of the matrix")
    if blocks == "auto":
        blocks = "narrow" if first.device.type == "cpu" else "wide"
    width = r + oversampling
    sources = [each or torch.Generator().manual_seed(0) for each in generators]
    with exact_products(first.device):
        prepared = [_prepared(matrix, width, blocks) for matrix in matrices]
        found: list[Triplets | None] = [None] * len(prepared)
        if min(first.shape) > max(EXACT_SIDE, 2 * width):
            found = _searched(prepared, r, width, iterations, sources, blocks)
        return [
            _with_fixed_signs(*(_exact(matrix, r) if triplets is None else triplets))
            for matrix, triplets in zip(prepared, found, strict=True)
        ]


def _prepared(matrix: Matrix, width: int, blocks: Blocks) -> Matrix:
    """Return a matrix in its working dtype, or a product where that costs less."""
    if isinstance(matrix, Tensor):
        return matrix.to(working_dtype(matrix))
    # Half the largest basis, of both sides. Few wide products on an accelerator never pay.
    if blocks == "wide" or not matrix.pays(BASIS_A_WIDTH * width):
        return matrix.dense()
    return matrix.widened()


def _searched(
    matrices: Sequence[Matrix],
    r: int,
    width: int,
    iterations: int,
    generators: Sequence[torch.Generator],
    blocks: Blocks,
) -> list[Triplets | None]:
    if blocks == "wide":
        dense = [each for each in matrices if isinstance(each, Tensor)]
        return filter_triplets(dense, r, width=width, rounds=iterations // 4, generators=generators)
    return [
        search_triplets(each, r, width=width, iterations=iterations, generator=generator)
        for each, generator in zip(matrices, generators, strict=True)
    ]


def _exact(matrix: Matrix, r: int) -> Triplets:
    dense = matrix if isinstance(matrix, Tensor) else matrix.dense()
    U, S, Vh = torch.linalg.svd(dense, full_matrices=False)
    return U[:, :r], S[:r], Vh[:r]


def _with_fixed_signs(U: Tensor, S: Tensor, Vh: Tensor) -> Triplets:
    largest = U.gather(0, U.abs().argmax(dim=0, keepdim=True)).squeeze(0)
    signs = torch.where(largest < 0, -1.0, 1.0).to(U.dtype)
    # LAPACK hands out transposed layouts, which safetensors refuses to write.
    return (U * signs).contiguous(), S.contiguous(), (Vh * signs.unsqueeze(1)).contiguous()
