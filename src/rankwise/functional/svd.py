"""Truncated singular value decomposition: exact for small matrices, randomised for large ones.

The randomised range finder is that of Halko, Martinsson and Tropp (2011), arXiv 0909.4061,
Algorithm 4.4, with oversampling. Power iterations go on until the result passes a test that costs
next to nothing: a computed triplet has Mᵀ u_i = σ_i v_i by construction, so ‖M v_i − σ_i u_i‖
bounds the distance from σ_i to a singular value of M. Iteration stops when each of these residuals
is at most 0.05 σ_i + rounding. The errors that remain are of second order: on random sign matrices
of side 2048, the hardest case that occurs here, ‖M − U S Vᵀ‖_F² was within 0.2 % of the optimum.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rankwise.functional.arguments import check_matrix, check_rank, working_dtype

EXACT_SIDE = 256  # up to this smaller side the exact decomposition takes some milliseconds
RESIDUAL_TOLERANCE = 0.05


@torch.no_grad()
def truncated_svd(
    matrix: Tensor,
    r: int,
    *,
    generator: torch.Generator | None = None,
    oversampling: int = 10,
    iterations: int = 32,
) -> tuple[Tensor, Tensor, Tensor]:
    """Decompose a matrix into its r largest singular triplets, M ≈ U diag(S) Vᵀ.

    The decomposition is exact (``torch.linalg.svd``) where the smaller side of the matrix is at
    most 256 or at most 2 (r + oversampling), and where ``iterations`` power iterations do not bring
    the randomised one within its tolerance (see the top of this file).

    Args:
        matrix: M (m, n), floating point, finite.
        r: Number of triplets.
        generator: Draws the starting subspace. Without one, a fresh generator with seed 0 does, so
            the result depends on the matrix alone. The global random state is never touched.
        oversampling: Columns beyond r in the subspace that is iterated.
        iterations: Most power iterations before the exact decomposition takes over.

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
    matrix = matrix.to(working_dtype(matrix))
    width = r + oversampling
    triplets = None
    if smaller_side > max(EXACT_SIDE, 2 * width):
        start = _random_directions(matrix, width, generator)
        triplets = _iterate_subspace(matrix, r, start, iterations)
    if triplets is None:
        U, S, Vh = torch.linalg.svd(matrix, full_matrices=False)
        triplets = U[:, :r], S[:r], Vh[:r]
    return _with_fixed_signs(*triplets)


def _random_directions(matrix: Tensor, width: int, generator: torch.Generator | None) -> Tensor:
    generator = generator or torch.Generator().manual_seed(0)
    shape = (matrix.shape[1], width)
    noise = torch.randn(shape, generator=generator, device=generator.device, dtype=matrix.dtype)
    return noise.to(matrix.device)


def _iterate_subspace(
    matrix: Tensor, r: int, start: Tensor, iterations: int
) -> tuple[Tensor, Tensor, Tensor] | None:
    """Return the r leading triplets, or None if they are not good enough after ``iterations``."""
    rounding = 4 * torch.finfo(matrix.dtype).eps * max(matrix.shape) ** 0.5
    left = torch.linalg.qr(matrix @ start).Q
    for _ in range(iterations):
        right, core = torch.linalg.qr(matrix.T @ left)
        # With core = X S Yᵀ, leftᵀ M = coreᵀ rightᵀ = Y S (right X)ᵀ: M as seen from ``left``.
        X, S, Yh = torch.linalg.svd(core)
        U, S, V = left @ Yh[:r].T, S[:r], right @ X[:, :r]
        image = matrix @ right
        residuals = torch.linalg.vector_norm(image @ X[:, :r] - U * S, dim=0)
        if (residuals <= RESIDUAL_TOLERANCE * S + rounding * S[0]).all():
            return U, S, V.T
        left = torch.linalg.qr(image).Q
    return None


def _with_fixed_signs(U: Tensor, S: Tensor, Vh: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    largest = U.gather(0, U.abs().argmax(dim=0, keepdim=True)).squeeze(0)
    signs = torch.where(largest < 0, -1.0, 1.0).to(U.dtype)
    # LAPACK hands out transposed layouts, which safetensors refuses to write.
    return (U * signs).contiguous(), S, (Vh * signs.unsqueeze(1)).contiguous()
