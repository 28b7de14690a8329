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


SIDE = 300  # above the side where the exact decomposition is used


def few_values(values: float | Tensor, rank: int) -> Tensor:
    """Return a spectrum of SIDE values of which the first ``rank`` are not zero."""
    spectrum = torch.zeros(SIDE)
    spectrum[:rank] = values
    return spectrum


HARD = {
    "zero": torch.zeros(SIDE, SIDE + 40),
    "identity": torch.eye(SIDE),
    "orthonormal columns": torch.linalg.qr(random_matrix(SIDE + 50, SIDE, seed=1)).Q.float(),
    "ones": torch.ones(SIDE, SIDE + 7),
    "one entry": torch.eye(SIDE) * few_values(2.0, 1),
    "rank 5": random_matrix(SIDE, 5, seed=2).float() @ random_matrix(5, SIDE, seed=3).float(),
    "40 equal values above smaller ones": torch.diag(
        torch.cat([torch.full((40,), 10.0), torch.linspace(1, 0, SIDE - 40)])
    ),
    "40 equal values above none": torch.diag(few_values(3.0, 40)),
    "twelve orders of magnitude": matrix_with_spectrum(
        torch.logspace(0, -12, SIDE), SIDE, SIDE, seed=4
    ).float(),
}
