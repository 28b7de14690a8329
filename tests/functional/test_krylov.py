"""The search for leading triplets: what it counts on, and matrices that are hard on it."""

from __future__ import annotations

import pytest
import torch

from rankwise.functional.krylov import search_triplets

from .matrices import matrix_with_spectrum, random_matrix

SIDE = 300
EASY = 1 / torch.arange(1, SIDE + 1)


def search(matrix, r, **options):
    options = {"width": r + 10, "iterations": 32, **options}
    found = search_triplets(matrix, r, generator=torch.Generator().manual_seed(0), **options)
    assert found is not None
    return found


def check(matrix, r, rtol=0.05):
    """Compare with the exact decomposition, in units of the largest value."""
    U, S, Vh = (part.double() for part in search(matrix, r))
    largest = matrix.abs().max().double().clamp_min(1e-300)
    exact = torch.linalg.svdvals(matrix.double() / largest)
    rounding = 100 * torch.finfo(matrix.dtype).eps * max(float(exact[0]), 1)
    torch.testing.assert_close(S / largest, exact[:r], rtol=rtol, atol=rounding)
    for frame in (U.T @ U, Vh @ Vh.T):
        torch.testing.assert_close(frame, torch.eye(r).double(), rtol=0, atol=2e-5)
    torch.testing.assert_close(
        matrix.double().T / largest @ U, Vh.T * S / largest, rtol=0, atol=rounding
    )


def few_values(values, rank):
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


@pytest.mark.parametrize("r", [4, 20, 48])
@pytest.mark.parametrize("matrix", HARD.values(), ids=HARD)
def test_hard_matrices_are_decomposed(matrix, r):
    check(matrix, r)


@pytest.mark.parametrize("scale", [1e-36, 1e-20, 1e-10, 1e10, 1e20, 1e35])
def test_the_size_of_a_matrix_makes_no_difference(scale):
    matrix = matrix_with_spectrum(EASY, SIDE, SIDE, seed=5).float()
    U, S, Vh = search(matrix, 8)
    other_U, other_S, other_Vh = search(matrix * scale, 8)
    torch.testing.assert_close(other_S / scale, S, rtol=1e-5, atol=0)
    torch.testing.assert_close((other_U * other_S / scale) @ other_Vh, (U * S) @ Vh)


def test_sizes_beyond_single_precision_do_not_vanish_in_double():
    matrix = matrix_with_spectrum(EASY, SIDE, SIDE, seed=5)
    torch.testing.assert_close(search(matrix * 1e-200, 8)[1], search(matrix, 8)[1] * 1e-200)


def test_long_columns_are_reflected_twice_at_most(monkeypatch):
    calls = []
    qr = torch.linalg.qr
    monkeypatch.setattr(torch.linalg, "qr", lambda X: calls.append(X.shape) or qr(X))
    search(random_matrix(2 * SIDE, SIDE, seed=6).sign().float(), 32)
    assert len(calls) == 2  # the first block, and the images of the triplets
    assert calls[1] == (SIDE, 42)  # of the leading directions, not of the whole basis


def test_what_is_not_found_in_time_is_not_returned():
    matrix = random_matrix(SIDE, SIDE, seed=7).sign().float()
    generator = torch.Generator()
    assert search_triplets(matrix, 4, width=14, iterations=1, generator=generator) is None
