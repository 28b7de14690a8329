"""An orthonormal basis of a few columns by products, where Householder's reflections cost more.

CholeskyQR2 (Yamamoto, Nakatsukasa, Yanagisawa and Fukaya 2015): with X = Q R, Xᵀ X = Rᵀ R is R's
Cholesky decomposition. Done once, Q is orthonormal up to eps κ(X)²; done twice, up to eps.
"""

from __future__ import annotations

import torch
from torch import Tensor

LEAST_PIVOT = 1e-3  # of a column's length, in float32: κ(X)² stays well below 1 / eps


def cholesky_qr(columns: Tensor, least: Tensor | float) -> tuple[Tensor, Tensor] | None:
    """Return Q with orthonormal columns and R with ``columns`` = Q R, by Cholesky's way, twice.

    Args:
        columns: (m, k), k <= m.
        least: Smallest pivot to trust.

    Returns:
        Q (m, k) and R (k, k), upper triangular; None where a pivot is below ``least``: the columns
        depend on each other, or nearly so, and reflections are to be preferred.
    """
    R = None
    for _ in range(2):
        factor, failed = torch.linalg.cholesky_ex(columns.T @ columns, upper=True)
        if failed or (R is None and not factor.diagonal().min() > least):
            return None
        columns = torch.linalg.solve_triangular(factor, columns, upper=True, left=False)
        R = factor if R is None else factor @ R
    assert R is not None
    return columns, R
