"""The leading singular triplets of large matrices on an accelerator: wide blocks, few of them.

There a product with eighty columns takes as long as with sixteen, and a small factorization longer
than either. So one block Q as wide as r and some more is refined by subspace iteration with a
Chebyshev filter (Zhou, Saad, Tiago and Chelikowsky 2006),

    Q ← orth(T_d(2 M Mᵀ / c − 1) Q),        σ_wanted² > c,

where the polynomial T_d stays within ±1 on [0, c] and grows beyond, so that one orthogonalisation
serves 2 d products. Between the filters Q is turned to its Ritz vectors, u = Q y with Mᵀ u = σ v,
and ‖M v − σ u‖ tests them as in ``krylov.py``. A first filter of degree 4, whose c lies above the
smallest value that the block has seen so far, mostly suffices: eleven products in all.

Several matrices of one shape go through the small factorizations together. Those of XᵀX are made in
float64 where the device has it, the eigenvectors on the CPU.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from rankwise.functional.krylov import RESIDUAL_TOLERANCE, Triplets
from rankwise.functional.orthonormal import cholesky_qr

COLUMNS = 16  # widths are multiples of it
FIRST_FILTER, NEXT_FILTER = (4, 1.4), (2, 1.0)  # degree, and c in units of the least σ² seen
LEAST_PIVOT = 1e-5  # of a column's length


def filter_triplets(
    matrices: Sequence[Tensor],
    r: int,
    *,
    width: int,
    rounds: int,
    generators: Sequence[torch.Generator],
) -> list[Triplets | None]:
    """Return the r leading triplets of each matrix, None where ``rounds`` filters do not find them.

    Args:
        matrices: M (m, n) each, of one shape, dtype and device; the smaller side is more than twice
            ``width``.
        r: Number of triplets.
        width: Columns of the block at least, more than r.
        rounds: Most filters.
        generators: Draw the first blocks, one each.
    """
    width = COLUMNS * -(-width // COLUMNS)
    block = _Block(matrices, [_noise(each, width, of) for each, of in zip(matrices, generators)])
    found = block.is_found(r)
    for turn in range(rounds):
        if found.all():
            break
        degree, cut = NEXT_FILTER if turn else FIRST_FILTER
        block.filter(degree, cut)
        found = block.is_found(r)
    return [each if ok else None for each, ok in zip(block.triplets(r), found.tolist())]


class _Block:
    """Orthonormal columns Q of each of several matrices, turned to its Ritz vectors.

    Attributes:
        vectors: Q (b, m, w).
        images: MᵀQ (b, n, w), orthogonal columns.
        squares: σ² (b, w), descending.
        products: M MᵀQ (b, m, w).
    """

    def __init__(self, matrices: Sequence[Tensor], noise: Sequence[Tensor]) -> None:
        self._matrices = matrices
        self._transposed = [matrix.T for matrix in matrices]
        start = _times(matrices, torch.stack(list(noise)))
        # Each matrix in a unit of its own size: fourth powers neither overflow nor vanish.
        largest = start.abs().amax(dim=(1, 2), keepdim=True)
        self._units = torch.where((largest > 0) & largest.isfinite(), largest, 1)
        self._turn(start / self._units)

    def filter(self, degree: int, cut: float) -> None:
        """Apply T_degree(2 M Mᵀ / c − 1), c being ``cut`` times the least σ²; start from there."""
        squares = self.squares.unsqueeze(1)
        c = cut * squares[..., -1:].clamp_min(torch.finfo(squares.dtype).eps * squares[..., :1])
        c = c.clamp_min(torch.finfo(squares.dtype).tiny)
        # Each column is kept at the size that its Ritz value makes it grow to.
        reach = (2 * squares / c - 1).clamp_min(1)
        before, now = self.vectors, (2 / c * self.products - self.vectors) / reach
        grown_before, grown = torch.ones_like(reach), reach
        for _ in range(degree - 1):
            images = self._apply(self._transposed, now)
            product = self._apply(self._matrices, images)
            grown_next = 2 * reach * grown - grown_before
            following = (4 / c * product - 2 * now) * (grown / grown_next)
            following -= before * (grown_before / grown_next)
            before, now = now, following
            grown_before, grown = grown, grown_next
        self._turn(now)

    def is_found(self, r: int) -> Tensor:
        """Tell of each matrix, on the CPU, whether ‖M v − σ u‖ is small for its r leading ones."""
        rounding = 4 * torch.finfo(self.vectors.dtype).eps * max(self._matrices[0].shape) ** 0.5
        values = self.squares.sqrt()
        distances = self.products - self.vectors * self.squares.unsqueeze(1)
        seen = values.clamp_min(rounding * values[:, :1])
        seen = seen.clamp_min(torch.finfo(seen.dtype).tiny)
        residuals = torch.linalg.vector_norm(distances, dim=1) / seen
        good = residuals <= RESIDUAL_TOLERANCE * values + rounding * values[:, :1]
        return good[:, :r].all(dim=1).cpu()

    def triplets(self, r: int) -> list[Triplets]:
        """Return U (m, r), S (r,) and Vᵀ (r, n) of each matrix."""
        right = _orthonormal(self.images)[..., :r]
        S = self.squares[:, :r].sqrt() * self._units.squeeze(2)
        return list(zip(self.vectors[..., :r], S, right.mT, strict=True))

    def _turn(self, columns: Tensor) -> None:
        vectors = _orthonormal(columns)
        images = self._apply(self._transposed, vectors)
        gram_dtype = _gram_dtype(images)
        gram = images.to(gram_dtype).mT @ images.to(gram_dtype)
        squares, directions = torch.linalg.eigh(gram.cpu())
        squares, directions = squares.flip(-1).clamp_min(0).to(images), directions.flip(-1)
        self.squares, directions = squares, directions.to(images)
        self.vectors, self.images = vectors @ directions, images @ directions
        self.products = self._apply(self._matrices, self.images)

    def _apply(self, matrices: Sequence[Tensor], columns: Tensor) -> Tensor:
        return _times(matrices, columns).div_(self._units)


def _times(matrices: Sequence[Tensor], columns: Tensor) -> Tensor:
    """Return M X for each matrix; they are large enough to be multiplied one by one."""
    product = columns.new_empty(len(columns), matrices[0].shape[0], columns.shape[2])
    for matrix, each, target in zip(matrices, columns, product, strict=True):
        torch.mm(matrix, each, out=target)
    return product


def _orthonormal(columns: Tensor) -> Tensor:
    """Return an orthonormal basis of the columns, each pointing the way that its column points."""
    lengths = torch.linalg.vector_norm(columns, dim=1, keepdim=True)
    columns = columns / torch.where(lengths > 0, lengths, 1)
    found = cholesky_qr(columns, LEAST_PIVOT, gram_dtype=_gram_dtype(columns))
    if found is not None:
        return found[0]
    Q, R = torch.linalg.qr(columns)
    return Q * torch.where(R.diagonal(dim1=-2, dim2=-1) < 0, -1, 1).to(Q.dtype).unsqueeze(1)


def _gram_dtype(columns: Tensor) -> torch.dtype:
    # Apple's accelerators have no float64.
    return torch.float32 if columns.device.type == "mps" else torch.float64


def _noise(matrix: Tensor, columns: int, generator: torch.Generator) -> Tensor:
    shape = (matrix.shape[1], columns)
    noise = torch.randn(shape, generator=generator, device=generator.device, dtype=matrix.dtype)
    return noise.to(matrix.device)


@contextlib.contextmanager
def exact_products(device: torch.device) -> Iterator[None]:
    """Multiply float32 as float32 meanwhile: no TF32, no autocast."""
    with contextlib.ExitStack() as stack:
        if torch.amp.is_autocast_available(device.type):
            stack.enter_context(torch.autocast(device.type, enabled=False))
        if device.type == "cuda":
            stack.enter_context(_no_tf32())
        yield


@contextlib.contextmanager
def _no_tf32() -> Iterator[None]:
    try:
        before = torch.get_float32_matmul_precision()
    except RuntimeError:  # from torch 2.9 on, where the newer setting is in use
        matmul: Any = torch.backends.cuda.matmul
        newer = matmul.fp32_precision
        matmul.fp32_precision = "ieee"
        try:
            yield
        finally:
            matmul.fp32_precision = newer
        return
    if before == "highest":
        yield
        return
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
