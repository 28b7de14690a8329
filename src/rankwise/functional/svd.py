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
    sources = [each or torch.Generator().manual_seed(0) for each in generators]
    options = {"oversampling": oversampling, "iterations": iterations}
    with exact_products(first.device):
        if blocks == "narrow":
            found = [
                _narrow(matrix, r, generator, **options)
                for matrix, generator in zip(matrices, sources, strict=True)
            ]
        else:
            stack = torch.stack([_dense(matrix) for matrix in matrices])
            found = list(zip(*decomposed_stack(stack, r, generators=sources, **options)))
    return found


@torch.no_grad()
def decomposed_stack(
    stack: Tensor,
    r: int,
    *,
    generators: Sequence[torch.Generator],
    oversampling: int = 10,
    iterations: int = 32,
) -> Triplets:
    """Decompose matrices (b, m, n) as :func:`truncated_svd` does one with wide blocks.

    They are known to be finite, and r to fit: nothing is asked of them. Signs may come in bfloat16.

    Returns:
        U (b, m, r), S (b, r) and Vᵀ (b, r, n), float32 at least.
    """
    width = r + oversampling
    with exact_products(stack.device):
        if min(stack.shape[1:]) <= max(EXACT_SIDE, 2 * width):
            return _with_fixed_signs(*_exact(_dense(stack), r))
        triplets, found = filter_triplets(
            stack, r, width=width, rounds=iterations // 4, generators=generators
        )
        for number, is_found in enumerate(found):
            if not is_found:
                for part, exact in zip(triplets, _exact(_dense(stack[number]), r), strict=True):
                    part[number] = exact
        return _with_fixed_signs(*triplets)


def _narrow(
    matrix: Matrix, r: int, generator: torch.Generator, *, oversampling: int, iterations: int
) -> Triplets:
    """Decompose one matrix by narrow blocks, or exactly."""
    width = r + oversampling
    matrix = _prepared(matrix, width)
    found = None
    if min(matrix.shape) > max(EXACT_SIDE, 2 * width):
        found = search_triplets(matrix, r, width=width, iterations=iterations, generator=generator)
    if found is None:
        found = _exact(matrix if isinstance(matrix, Tensor) else matrix.dense(), r)
    return _with_fixed_signs(*found)


def _prepared(matrix: Matrix, width: int) -> Matrix:
    """Return a matrix in its working dtype, or a product where that costs less."""
    # Half the largest basis, of both sides.
    if isinstance(matrix, Tensor) or not matrix.pays(BASIS_A_WIDTH * width):
        return _dense(matrix)
    return matrix.widened()


def _dense(matrix: Matrix) -> Tensor:
    return matrix.to(working_dtype(matrix)) if isinstance(matrix, Tensor) else matrix.dense()


def _exact(matrices: Tensor, r: int) -> Triplets:
    U, S, Vh = torch.linalg.svd(matrices, full_matrices=False)
    return U[..., :r], S[..., :r], Vh[..., :r, :]


def _with_fixed_signs(U: Tensor, S: Tensor, Vh: Tensor) -> Triplets:
    largest = U.gather(-2, U.abs().argmax(dim=-2, keepdim=True)).squeeze(-2)
    signs = torch.where(largest < 0, -1.0, 1.0).to(U.dtype)
    # LAPACK hands out transposed layouts, which safetensors refuses to write.
    U = (U * signs.unsqueeze(-2)).contiguous()
    return U, S.contiguous(), (Vh * signs.unsqueeze(-1)).contiguous()
