"""The leading singular triplets of a large matrix on a CPU: narrow blocks, all of them kept.

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

K holds no more copies of a singular value than Ω has columns, and is exhausted early where M has
low rank. Where either may hide a triplet, all begins anew with a block that is wider than r.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rankwise.functional.orthonormal import cholesky_qr
from rankwise.functional.product import Product, times

RESIDUAL_TOLERANCE = 0.1
BLOCK, RANKS_A_BLOCK = 16, 64  # columns of a block, more of them from rank to rank
BASIS_A_WIDTH = 5  # most columns of the basis, in widths of r + oversampling
# The Gram matrix tells directions apart whose σ² exceed its rounding, which is relative to σ₁².
LEAST_SEEN_BY_GRAM = 1e-2
SAME_VALUE = 1e-3  # relative distance of values that count as one
LEAST_PIVOT = 1e-3  # of the length of a block: its condition squared stays well below 1 / eps

Matrix = Tensor | Product
Triplets = tuple[Tensor, Tensor, Tensor]


def search_triplets(
    matrix: Matrix,
    r: int,
    *,
    width: int,
    iterations: int,
    generator: torch.Generator,
    block: int | None = None,
) -> Triplets | None:
    """Return the r leading triplets, or None if ``iterations`` blocks do not find them.

    Args:
        matrix: M (m, n), or its factors, whose smaller side is more than 2 ``width``.
        r: Number of triplets.
        width: Columns with which the basis is begun anew when it grows too large.
        iterations: Most blocks.
        generator: Draws the first block.
        block: Columns of a block; by default as many as are best at this rank.
    """
    block = block or BLOCK * -(-r // RANKS_A_BLOCK)
    largest = min(*matrix.shape, BASIS_A_WIDTH * width)
    rounding = 4 * torch.finfo(matrix.dtype).eps * max(matrix.shape) ** 0.5
    start = times(matrix, _random_columns(matrix, block, generator))
    unit = _unit(start)
    known, following = _Basis(matrix, largest + block, unit), torch.linalg.qr(start / unit).Q
    for _ in range(iterations):
        known.add(following)
        following, inner = known.next_block(block)
        is_full = known.size + block > largest
        is_exhausted = bool(inner.norm() <= rounding * known.gram.trace())
        leading = None
        if not (is_full or is_exhausted):
            if known.size < width:
                continue
            leading = _leading_where_found(known.gram, inner, r, width)
            if leading is None:
                continue
        U, S, Vh = known.triplets(leading)
        seen = S[:r].clamp_min(rounding * float(S[0])).clamp_min(torch.finfo(S.dtype).tiny)
        last = known.vectors[:, -block:].T @ U[:, :r] / seen
        residuals = torch.linalg.vector_norm(inner @ last, dim=0)
        is_found = (residuals <= RESIDUAL_TOLERANCE * S[:r] + rounding * S[0]).all()
        if len(S) < r or (is_found and _may_hide_copies(S[:r], block)):
            wide = BLOCK * -(-width // BLOCK)
            return search_triplets(
                matrix, r, width=width, iterations=iterations, generator=generator, block=wide
            )
        if is_found:
            return U[:, :r], unit * S[:r], Vh[:r]
        if is_full:
            # A thick restart: what M makes of these lies in them and in what follows.
            known.restart(U[:, :width])
    return None


class _Basis:
    """An orthonormal basis Q that grows, beside MᵀQ and its Gram matrix QᵀM MᵀQ.

    M is taken in a unit of its own size, a power of two, so that fourth powers of its numbers
    neither overflow nor vanish.
    """

    def __init__(self, matrix: Matrix, largest: int, unit: float) -> None:
        self._matrix = matrix
        self._unit = unit
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
        self.images[:, before:] = times(self._matrix.T, vectors) / self._unit
        products = self.images.T @ self.images[:, before:]
        self.gram[:, before:] = products
        self.gram[before:] = products.T

    def restart(self, vectors: Tensor) -> None:
        self.size = 0
        self.add(vectors)

    def next_block(self, columns: int) -> tuple[Tensor, Tensor]:
        """Return F, orthonormal and outside of Q, and C with M (last images) = F C + Q (...)."""
        basis = self.vectors
        images = times(self._matrix, self.images[:, -columns:]) / self._unit
        rest = images - basis @ self.gram[:, -columns:]  # which is the part in the basis
        rest -= basis @ (basis.T @ rest)  # once leaves rounding of the size of that part
        found = cholesky_qr(rest, LEAST_PIVOT * torch.linalg.matrix_norm(images))
        if found is not None:
            return found
        # Of a block that lay in the basis nearly or altogether, the rest is rounding.
        F, first = torch.linalg.qr(rest)
        F, second = torch.linalg.qr(F - basis @ (basis.T @ F))
        return F, second @ first

    def triplets(self, leading: Tensor | None) -> Triplets:
        """Return the singular triplets of P M, P the projection on Q or on Q ``leading``."""
        vectors, images = self.vectors, self.images
        if leading is not None:
            vectors, images = vectors @ leading, images @ leading
        right, core = torch.linalg.qr(images)
        X, S, Yh = torch.linalg.svd(core)
        return vectors @ Yh.T, S, (right @ X).T


def _leading_where_found(gram: Tensor, inner: Tensor, r: int, width: int) -> Tensor | None:
    """Return directions of the Gram matrix that hold the r leading triplets, None if not yet found.

    It sees σ² and not σ: the triplets are made of the images of ``width`` of its directions, or of
    all where it cannot tell those apart.
    """
    squares, Y = torch.linalg.eigh(gram)
    S = squares[-r:].clamp_min(torch.finfo(gram.dtype).tiny).sqrt()
    last = Y[-inner.shape[1] :, -r:] / S
    residuals = torch.linalg.vector_norm(inner @ last, dim=0)
    if not (residuals <= RESIDUAL_TOLERANCE * S).all():
        return None
    return Y[:, -width:] if S[0] > LEAST_SEEN_BY_GRAM * S[-1] else Y


def _may_hide_copies(S: Tensor, block: int) -> bool:
    """Tell whether so many values are one, with smaller ones after them, that more may be it."""
    if len(S) <= block:
        return False
    first, last = S[:-block], S[block - 1 : -1]
    is_run = first - last <= SAME_VALUE * first
    return bool((is_run & (S[-1] < (1 - SAME_VALUE) * last)).any())


def _random_columns(matrix: Matrix, columns: int, generator: torch.Generator) -> Tensor:
    shape = (matrix.shape[1], columns)
    noise = torch.randn(shape, generator=generator, device=generator.device, dtype=matrix.dtype)
    return noise.to(matrix.device)


def _unit(images: Tensor) -> float:
    """Return the power of two nearest to the size of a matrix, given what it makes of noise."""
    largest = float(images.abs().max())
    return 2.0 ** math.frexp(largest)[1] if 0 < largest < math.inf else 1.0
