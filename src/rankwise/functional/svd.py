"""Truncated singular value decomposition: exact for small matrices, block Krylov for large ones.

A block Krylov method (Golub, Luk and Overton 1981; Musco and Musco 2015, arXiv 1504.05477) with the
randomised start of Halko, Martinsson and Tropp (2011), arXiv 0909.4061. With Ω a random block and
Q an orthonormal basis of

    K = span(M Ω, (M Mᵀ) M Ω, (M Mᵀ)² M Ω, ...)

the triplets of Qᵀ M are those of M as seen from K. Where power iteration keeps the last block
alone, K keeps all of them, so that far fewer products with M give the same accuracy.

Each computed triplet has Mᵀ u = σ v by construction, so ‖M v − σ u‖ bounds the distance from σ to a
singular value of M. As M maps all but the last block of MᵀQ into K, this residual follows from the
block that would come next and costs nothing. The basis grows until each residual is at most
0.1 σ_i + rounding. The errors that remain are of second order: ‖M − U S Vᵀ‖_F² was within 0.5 % of
the optimum on the gradients, and on their signs, of a Llama of width 1024 at ranks 8 to 128.

The blocks are narrow, as many small steps need fewer products than few large ones, and multiples of
16 wide: of 21 columns a product took as long as of 32. Whether the triplets are worth making is
asked of the Gram matrix of MᵀQ, which grows with the basis; only they themselves say that they are
found.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rankwise.functional.arguments import check_matrix, check_rank, working_dtype
from rankwise.functional.product import Product, times

EXACT_SIDE = 256  # up to this smaller side the exact decomposition takes some milliseconds
RESIDUAL_TOLERANCE = 0.1
BLOCK, RANKS_A_BLOCK = 16, 64  # columns of a block, more of them from rank to rank
BASIS_A_WIDTH = 5  # most columns of the basis, in widths of r + oversampling

Matrix = Tensor | Product
Triplets = tuple[Tensor, Tensor, Tensor]


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
    randomised one within its tolerance (see the top of this file).

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
        triplets = _search(matrix, r, width, iterations, generator)
    if triplets is None:
        dense = matrix if isinstance(matrix, Tensor) else matrix.dense()
        U, S, Vh = torch.linalg.svd(dense, full_matrices=False)
        triplets = U[:, :r], S[:r], Vh[:r]
    return _with_fixed_signs(*triplets)


def _random_directions(matrix: Matrix, width: int, generator: torch.Generator | None) -> Tensor:
    generator = generator or torch.Generator().manual_seed(0)
    shape = (matrix.shape[1], width)
    noise = torch.randn(shape, generator=generator, device=generator.device, dtype=matrix.dtype)
    return noise.to(matrix.device)


def _search(
    matrix: Matrix, r: int, width: int, iterations: int, generator: torch.Generator | None
) -> Triplets | None:
    """Return the r leading triplets, or None if ``iterations`` blocks do not find them."""
    block = BLOCK * -(-r // RANKS_A_BLOCK)
    largest = min(*matrix.shape, BASIS_A_WIDTH * width)
    rounding = 4 * torch.finfo(matrix.dtype).eps * max(matrix.shape) ** 0.5
    known = _Basis(matrix, largest + block)
    following = torch.linalg.qr(times(matrix, _random_directions(matrix, block, generator))).Q
    for _ in range(iterations):
        known.add(following)
        following, inner = _orthogonalised(times(matrix, known.images[:, -block:]), known.vectors)
        is_full = known.size + block > largest
        is_exhausted = bool(inner.norm() <= rounding * known.gram.trace())
        if not (is_full or is_exhausted) and (
            known.size < width or not _may_be_found(known.gram, inner, r)
        ):
            continue
        U, S, Vh = known.triplets()
        if len(S) < r:
            return None
        last = known.vectors[:, -block:].T @ U[:, :r] / S[:r]
        residuals = torch.linalg.vector_norm(inner @ last, dim=0)
        if (residuals <= RESIDUAL_TOLERANCE * S[:r] + rounding * S[0]).all():
            return U[:, :r], S[:r], Vh[:r]
        if is_full:
            # A thick restart: what M makes of these lies in them and in what follows.
            known.restart(U[:, :width])
    return None


class _Basis:
    """An orthonormal basis Q that grows, beside MᵀQ and its Gram matrix QᵀM MᵀQ."""

    def __init__(self, matrix: Matrix, largest: int) -> None:
        self._matrix = matrix
        rows, columns = matrix.shape
        options = {"dtype": matrix.dtype, "device": matrix.device}
        # One vector after the other in memory, so that the first ones are a matrix of LAPACK's.
        self._vectors = torch.empty(largest, rows, **options).T
        self._images = torch.empty(largest, columns, **options).T
        self._gram = torch.empty(largest, largest, **options)
        self.size = 0

    @property
    def vectors(self) -> Tensor:
        return self._vectors[:, : self.size]

    @property
    def images(self) -> Tensor:
        return self._images[:, : self.size]

    @property
    def gram(self) -> Tensor:
        return self._gram[: self.size, : self.size]

    def add(self, vectors: Tensor) -> None:
        """Take in columns that are orthonormal, to each other and to those before."""
        before, self.size = self.size, self.size + vectors.shape[1]
        self.vectors[:, before:] = vectors
        self.images[:, before:] = times(self._matrix.T, vectors)
        products = self.images.T @ self.images[:, before:]
        self.gram[:, before:] = products
        self.gram[before:] = products.T

    def restart(self, vectors: Tensor) -> None:
        self.size = 0
        self.add(vectors)

    def triplets(self) -> Triplets:
        """Return the singular triplets of Q Qᵀ M."""
        right, core = torch.linalg.qr(self.images)
        X, S, Yh = torch.linalg.svd(core)
        return self.vectors @ Yh.T, S, (right @ X).T


def _may_be_found(gram: Tensor, inner: Tensor, r: int) -> bool:
    """Tell from the Gram matrix whether the triplets are worth making: it sees σ² and not σ."""
    squares, Y = torch.linalg.eigh(gram)
    S = squares[-r:].clamp_min(torch.finfo(gram.dtype).tiny).sqrt()
    last = Y[-inner.shape[1] :, -r:] / S
    return bool((torch.linalg.vector_norm(inner @ last, dim=0) <= RESIDUAL_TOLERANCE * S).all())


def _orthogonalised(block: Tensor, basis: Tensor) -> tuple[Tensor, Tensor]:
    """Return F with orthonormal columns and C with block = F C + (what lies in the basis)."""
    rest = block
    for _ in range(2):  # once leaves rounding of the size of what lay in the basis
        rest = rest - basis @ (basis.T @ rest)
    F, C = torch.linalg.qr(rest)
    if C.diagonal().abs().min() > 1e-3 * torch.linalg.matrix_norm(block):
        return F, C
    # Of a block that lay in the basis nearly or altogether, the rest is rounding.
    F, second = torch.linalg.qr(F - basis @ (basis.T @ F))
    return F, second @ C


def _with_fixed_signs(U: Tensor, S: Tensor, Vh: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    largest = U.gather(0, U.abs().argmax(dim=0, keepdim=True)).squeeze(0)
    signs = torch.where(largest < 0, -1.0, 1.0).to(U.dtype)
    # LAPACK hands out transposed layouts, which safetensors refuses to write.
    return (U * signs).contiguous(), S, (Vh * signs.unsqueeze(1)).contiguous()
