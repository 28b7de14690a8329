"""The leading singular triplets of large matrices on an accelerator: wide blocks, few of them.

There a product with eighty columns takes as long as with sixteen, and a small factorization longer
than either. So one block Q as wide as r and some more is refined by subspace iteration with a
Chebyshev filter (Zhou, Saad, Tiago and Chelikowsky 2006),

    Q ← orth(T_d(2 M Mᵀ / c − 1) Q),        σ_wanted² > c,

where the polynomial T_d stays within ±1 on [0, c] and grows beyond, so that one orthogonalisation
serves 2 d products. Between the filters Q is turned to its Ritz vectors, u = Q y with Mᵀ u = σ v,
and ‖M v − σ u‖ tests them as in ``krylov.py``. A first filter of degree 4, whose c lies above the
smallest value that the block has seen so far, mostly suffices: eleven products in all.

Several matrices of one shape are multiplied and factored together, so that a group of them starts
as many operations as one. Signs may come in bfloat16, which holds them exactly: they are multiplied
with three parts of each column, which together hold float32's digits, at several times the speed.
XᵀX is factored in float64 where the device has it; the eigenvectors of wide ones are found on the
CPU. For these a group waits, and to hear whether its triplets are found.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from rankwise.functional.krylov import RESIDUAL_TOLERANCE, Triplets
from rankwise.functional.orthonormal import tried_cholesky_qr
from rankwise.functional.product import has_wide_results

COLUMNS = 16  # widths are multiples of it
FIRST_FILTER, NEXT_FILTER = (4, 1.4), (2, 1.0)  # degree, and c in units of the least σ² seen
LEAST_PIVOT = 1e-5  # of a column's length
SMALL_ON_CUDA = 32  # up to this width cuSOLVER finds the eigenvectors of a group in one launch
PARTS = 3  # of bfloat16, eight digits each, that hold the 24 of float32


def filter_triplets(
    matrices: Tensor,
    r: int,
    *,
    width: int,
    rounds: int,
    generators: Sequence[torch.Generator],
) -> tuple[Triplets, list[bool]]:
    """Return the r leading triplets of each matrix, and whether ``rounds`` filters have found them.

    Args:
        matrices: M (b, m, n), float64, float32, or bfloat16 for numbers of few digits; the smaller
            side is more than twice ``width``.
        r: Number of triplets.
        width: Columns of the block at least, more than r.
        rounds: Most filters.
        generators: Draw the first blocks, one each.

    Returns:
        U (b, m, r), S (b, r) and Vᵀ (b, r, n), float32 at least; those that are not found are not
        to be used.
    """
    width = COLUMNS * -(-width // COLUMNS)
    block = _Block(matrices, _noise(matrices, width, generators))
    found = block.is_found(r)
    for turn in range(rounds):
        if all(found):
            break
        degree, cut = NEXT_FILTER if turn else FIRST_FILTER
        block.filter(degree, cut)
        found = block.is_found(r)
    return block.triplets(r), found


class _Block:
    """Orthonormal columns Q of each of several matrices, turned to its Ritz vectors.

    Attributes:
        vectors: Q (b, m, w).
        images: MᵀQ (b, n, w), orthogonal columns.
        squares: σ² (b, w), descending.
        products: M MᵀQ (b, m, w).
    """

    def __init__(self, matrices: Tensor, noise: Tensor) -> None:
        self._matrices = matrices
        start = _times(matrices, noise)
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
            product = self._apply(self._matrices, self._apply(self._matrices.mT, now))
            grown_next = 2 * reach * grown - grown_before
            following = (4 / c * product - 2 * now) * (grown / grown_next)
            following -= before * (grown_before / grown_next)
            before, now = now, following
            grown_before, grown = grown, grown_next
        self._turn(now)

    def is_found(self, r: int) -> list[bool]:
        """Tell of each matrix whether ‖M v − σ u‖ is small for its r leading ones."""
        rounding = 4 * torch.finfo(self.vectors.dtype).eps * max(self._matrices.shape[1:]) ** 0.5
        values = self.squares.sqrt()
        distances = self.products - self.vectors * self.squares.unsqueeze(1)
        seen = values.clamp_min(rounding * values[:, :1])
        seen = seen.clamp_min(torch.finfo(seen.dtype).tiny)
        residuals = torch.linalg.vector_norm(distances, dim=1) / seen
        good = residuals <= RESIDUAL_TOLERANCE * values + rounding * values[:, :1]
        return good[:, :r].all(dim=1).tolist()

    def triplets(self, r: int) -> Triplets:
        """Return U (b, m, r), S (b, r) and Vᵀ (b, r, n)."""
        right, is_trusted = _tried_orthonormal(self.images)
        if not is_trusted:
            right = _reflected(self.images)
        S = self.squares[:, :r].sqrt() * self._units.squeeze(2)
        return self.vectors[..., :r], S, right[..., :r].mT

    def _turn(self, columns: Tensor) -> None:
        vectors, is_trusted = _tried_orthonormal(columns)
        images, gram = self._with_gram(vectors)
        # Both at once: to wait for two small numbers takes twice as long as for one.
        told = torch.cat([gram.flatten(), is_trusted.to(gram.dtype).view(1)])
        told = told if _finds_eigenvectors(gram) else told.cpu()
        gram = told[:-1].view_as(gram)
        if not told[-1]:
            vectors = _reflected(columns)
            images, gram = self._with_gram(vectors)
        squares, directions = _eigenvectors(gram)
        self.squares = squares.flip(-1).clamp_min(0).to(images)
        directions = directions.flip(-1).to(images)
        self.vectors, self.images = vectors @ directions, images @ directions
        self.products = self._apply(self._matrices, self.images)

    def _with_gram(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Return MᵀQ and its Gram matrix."""
        images = self._apply(self._matrices.mT, vectors)
        wide = images.to(_gram_dtype(images))
        return images, wide.mT @ wide

    def _apply(self, matrices: Tensor, columns: Tensor) -> Tensor:
        return _times(matrices, columns).div_(self._units)


def _times(matrices: Tensor, columns: Tensor) -> Tensor:
    """Return M X for each matrix, in the dtype of X."""
    if matrices.dtype == columns.dtype:
        return torch.bmm(matrices, columns)
    parts = torch.cat(_in_parts(columns, matrices.dtype), dim=2)
    if has_wide_results(matrices.device):
        bmm: Any = torch.bmm
        products = bmm(matrices, parts, out_dtype=columns.dtype)
    else:
        products = torch.bmm(matrices.to(columns.dtype), parts.to(columns.dtype))
    return products.unflatten(2, (PARTS, -1)).sum(dim=2)


def _in_parts(columns: Tensor, dtype: torch.dtype) -> list[Tensor]:
    """Return parts in a narrower dtype whose sum is ``columns``."""
    parts = []
    for _ in range(PARTS):
        parts.append(columns.to(dtype))
        columns = columns - parts[-1]
    return parts


def _tried_orthonormal(columns: Tensor) -> tuple[Tensor, Tensor]:
    """Return an orthonormal basis of the columns, and whether it is to be trusted: a tensor ()."""
    lengths = torch.linalg.vector_norm(columns, dim=1, keepdim=True)
    columns = columns / torch.where(lengths > 0, lengths, 1)
    Q, _, is_trusted = tried_cholesky_qr(columns, LEAST_PIVOT, gram_dtype=_gram_dtype(columns))
    return Q, is_trusted


def _finds_eigenvectors(gram: Tensor) -> bool:
    """Tell whether they are found where the matrices are, and not sooner on the CPU."""
    return gram.is_cuda and gram.shape[-1] <= SMALL_ON_CUDA


def _eigenvectors(gram: Tensor) -> tuple[Tensor, Tensor]:
    if _finds_eigenvectors(gram):
        # One matrix of a group is enough to fail all; LAPACK finds those of each.
        with contextlib.suppress(torch.linalg.LinAlgError):  # type: ignore[attr-defined]
            return torch.linalg.eigh(gram)
    return torch.linalg.eigh(gram.cpu())


def _reflected(columns: Tensor) -> Tensor:
    """Return such a basis of any columns, each pointing the way that its column points."""
    lengths = torch.linalg.vector_norm(columns, dim=1, keepdim=True)
    Q, R = torch.linalg.qr(columns / torch.where(lengths > 0, lengths, 1))
    return Q * torch.where(R.diagonal(dim1=-2, dim2=-1) < 0, -1, 1).to(Q.dtype).unsqueeze(1)


def _gram_dtype(columns: Tensor) -> torch.dtype:
    # Apple's accelerators have no float64.
    return torch.float32 if columns.device.type == "mps" else torch.float64


def _noise(matrices: Tensor, columns: int, generators: Sequence[torch.Generator]) -> Tensor:
    wide = torch.promote_types(matrices.dtype, torch.float32)
    noise = matrices.new_empty(len(matrices), matrices.shape[2], columns, dtype=wide)
    for each, generator in zip(noise, generators, strict=True):
        drawn = torch.randn(
            each.shape, generator=generator, device=generator.device, dtype=each.dtype
        )
        each.copy_(drawn)
    return noise


@contextlib.contextmanager
def exact_products(device: torch.device) -> Iterator[None]:
    """Multiply float32 as float32 meanwhile: no TF32, no autocast.

    What puts the switches back may be called twice, and is where an interrupt comes between: one
    that was left in ``torch.autocast`` would have it keep its casts of weights for good.
    """
    switches = _switches(device)

    def put_back() -> None:
        for write, before, _ in switches:
            write(before)

    try:
        for write, _, meanwhile in switches:
            write(meanwhile)
        yield
        put_back()
    except BaseException:
        put_back()
        raise


def _switches(device: torch.device) -> list[tuple[Callable[[Any], None], Any, Any]]:
    """Return how each switch is written, what it is now and what it has to be."""
    switches: list[tuple[Callable[[Any], None], Any, Any]] = []
    if torch.amp.is_autocast_available(device.type):
        write = partial(torch.set_autocast_enabled, device.type)
        switches.append((write, torch.is_autocast_enabled(device.type), False))
    if device.type == "cuda":
        try:
            precision = torch.get_float32_matmul_precision()
            switches.append((torch.set_float32_matmul_precision, precision, "highest"))
        except RuntimeError:  # from torch 2.9 on, where the newer setting is in use
            matmul: Any = torch.backends.cuda.matmul
            write = partial(setattr, matmul, "fp32_precision")
            switches.append((write, matmul.fp32_precision, "ieee"))
    return [each for each in switches if each[1] != each[2]]
