"""Matrices in float64 that the tests of the formulas draw, always from a seed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def random_matrix(*shape: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def matrix_with_spectrum(values: Sequence[float] | Tensor, m: int, n: int, *, seed: int) -> Tensor:
    """A random (m, n) matrix whose non-zero singular values are ``values``."""
    spectrum = torch.as_tensor(values, dtype=torch.float64)
    left = torch.linalg.qr(random_matrix(m, len(spectrum), seed=seed)).Q
    right = torch.linalg.qr(random_matrix(n, len(spectrum), seed=seed + 1)).Q
    return (left * spectrum) @ right.T


def projector(columns: Tensor) -> Tensor:
    """The orthogonal projector on the column space, by the pseudo-inverse."""
    return columns @ torch.linalg.pinv(columns)
