"""An orthonormal basis of a few columns by products, where Householder's reflections cost more.

CholeskyQR2 (Yamamoto, Nakatsukasa, Yanagisawa and Fukaya 2015): with X = Q R, Xᵀ X = Rᵀ R is R's
Cholesky decomposition. Done once, Q is orthonormal up to eps κ(X)²; done twice, up to eps.
"""

from __future__ import annotations

import torch
from torch import Tensor


def cholesky_qr(
    columns: Tensor, least: Tensor | float, *, gram_dtype: torch.dtype | None = None
) -> tuple[Tensor, Tensor] | None:
    """Return Q with orthonormal columns and R with ``columns`` = Q R, by Cholesky's way, twice.

    Args:
        columns: (..., m, k), k <= m.
        least: Smallest pivot to trust.
        gram_dtype: Dtype of XᵀX and its decomposition, by default that of ``columns``. In float64
            columns may depend on each other more closely.

    Returns:
        Q (..., m, k) and R (..., k, k), upper triangular; None where a pivot of any of the matrices
        is below ``least``: reflections are to be preferred then.
    """
    Q, R, is_trusted = tried_cholesky_qr(columns, least, gram_dtype=gram_dtype)
    return (Q, R) if is_trusted else None


def tried_cholesky_qr(
    columns: Tensor, least: Tensor | float, *, gram_dtype: torch.dtype | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return Q and R of :func:`cholesky_qr`, and whether they are to be trusted: a tensor ().

    So nothing waits for a device to tell, which may be asked together with what follows.
    """
    Q, first, failed, pivots = _step(columns, gram_dtype)
    Q, second, failed_again, _ = _step(Q, gram_dtype)
    is_trusted = (pivots > least).all() & ~(failed + failed_again).any()
    return Q, second @ first, is_trusted


def _step(columns: Tensor, gram_dtype: torch.dtype | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return X R⁻¹ and R with XᵀX = RᵀR, and what tells whether that worked."""
    wide = columns if gram_dtype is None else columns.to(gram_dtype)
    factor, failed = torch.linalg.cholesky_ex(wide.mT @ wide, upper=True)
    pivots = factor.diagonal(dim1=-2, dim2=-1)
    factor = factor.to(columns.dtype)
    Q = torch.linalg.solve_triangular(factor, columns, upper=True, left=False)
    return Q, factor, failed, pivots
