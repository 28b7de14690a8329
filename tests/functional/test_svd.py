"""The truncated decomposition: exact when small, checked when randomised."""

from __future__ import annotations

import pytest
import torch

from rankwise.functional import svd
from rankwise.functional.svd import truncated_svd, truncated_svds

from .matrices import HARD, SIDE, matrix_with_spectrum, random_matrix

LARGE = SIDE
EASY = 1 / torch.arange(1, SIDE + 1)
each_kind = pytest.mark.parametrize("blocks", ["narrow", "wide"])


@pytest.fixture
def no_exact_svd(monkeypatch):
    """Fail when a matrix of full size is decomposed exactly."""
    exact = torch.linalg.svd

    def only_small(matrix, **options):
        assert min(matrix.shape) < LARGE, "the exact decomposition took over"
        return exact(matrix, **options)

    monkeypatch.setattr(torch.linalg, "svd", only_small)


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (5, 5), (1, 7)])
def test_a_small_matrix_is_decomposed_exactly(shape):
    matrix = random_matrix(*shape, seed=1)
    for r in range(1, min(shape) + 1):
        U, S, Vh = truncated_svd(matrix, r)
        torch.testing.assert_close(S, torch.linalg.svdvals(matrix)[:r], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(matrix @ Vh.T, U * S, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(U.T @ U, torch.eye(r).double(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", [(LARGE, 2 * LARGE), (2 * LARGE, LARGE)])
@pytest.mark.parametrize("decay", [0.5, 1.0, 2.0])
@each_kind
def test_a_large_matrix_is_approximated_almost_optimally(no_exact_svd, shape, decay, blocks):
    spectrum = torch.arange(1, LARGE + 1).double() ** -decay
    matrix = matrix_with_spectrum(spectrum, *shape, seed=2)
    U, S, Vh = truncated_svd(matrix, 16, blocks=blocks)
    torch.testing.assert_close(S, spectrum[:16], rtol=2e-2, atol=0)
    optimum = spectrum[16:].square().sum()
    assert (matrix - (U * S) @ Vh).square().sum() <= (1 + 5e-3) * optimum


@each_kind
def test_the_flat_spectrum_of_a_sign_matrix_converges_too(no_exact_svd, blocks):
    matrix = random_matrix(LARGE, LARGE, seed=3).sign().float()
    exact = torch.linalg.svdvals(matrix)
    _, S, _ = truncated_svd(matrix, 16, blocks=blocks)
    torch.testing.assert_close(S, exact[:16], rtol=3e-2, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@each_kind
def test_a_rank_below_r_leaves_orthonormal_factors_and_zero_values(no_exact_svd, dtype, blocks):
    matrix = matrix_with_spectrum([3.0, 2.0, 1.0], LARGE, LARGE, seed=4).to(dtype)
    U, S, Vh = truncated_svd(matrix, 8, blocks=blocks)
    rounding = 100 * torch.finfo(dtype).eps
    torch.testing.assert_close(
        S, torch.tensor([3, 2, 1, *5 * [0]]).to(dtype), rtol=0, atol=rounding
    )
    torch.testing.assert_close(U.T @ U, torch.eye(8, dtype=dtype), rtol=0, atol=rounding)
    torch.testing.assert_close(Vh @ Vh.T, torch.eye(8, dtype=dtype), rtol=0, atol=rounding)


@pytest.mark.parametrize("r", [2, 8, 32])
@each_kind
def test_of_the_energy_of_a_sign_matrix_next_to_nothing_is_lost(no_exact_svd, r, blocks):
    # At r = 2 the basis grows too large and is begun anew.
    matrix = random_matrix(2 * LARGE, LARGE, seed=12).sign()
    U, S, Vh = truncated_svd(matrix, r, blocks=blocks)
    optimum = torch.linalg.svdvals(matrix)[r:].square().sum()
    assert (matrix - (U * S) @ Vh).square().sum() <= (1 + 2.5e-3) * optimum


@pytest.mark.parametrize("rank", [5, 40])
def test_a_block_of_exact_zeros_does_no_harm(no_exact_svd, rank):
    spectrum = torch.zeros(LARGE)
    spectrum[:rank] = torch.arange(rank, 0, -1)
    U, S, Vh = truncated_svd(torch.diag(spectrum), 4)
    torch.testing.assert_close(S, spectrum[:4], rtol=2e-2, atol=0)
    torch.testing.assert_close(U.T @ U, torch.eye(4), rtol=0, atol=1e-5)
    torch.testing.assert_close(Vh @ Vh.T, torch.eye(4), rtol=0, atol=1e-5)


@pytest.mark.parametrize("r", [4, 20, 48])
@pytest.mark.parametrize("matrix", HARD.values(), ids=HARD)
@each_kind
def test_matrices_that_are_hard_to_decompose(no_exact_svd, matrix, r, blocks):
    U, S, Vh = (part.double() for part in truncated_svd(matrix, r, blocks=blocks))
    exact = torch.linalg.svdvals(matrix.double())
    rounding = 100 * torch.finfo(matrix.dtype).eps * max(float(exact[0]), 1)
    torch.testing.assert_close(S, exact[:r], rtol=0.05, atol=rounding)
    for frame in (U.T @ U, Vh @ Vh.T):
        torch.testing.assert_close(frame, torch.eye(r).double(), rtol=0, atol=2e-5)
    torch.testing.assert_close(matrix.double().T @ U, Vh.T * S, rtol=0, atol=rounding)


@pytest.mark.parametrize("scale", [1e-36, 1e-20, 1e-10, 1e10, 1e20, 1e35])
@each_kind
def test_the_size_of_a_matrix_makes_no_difference(scale, blocks):
    matrix = matrix_with_spectrum(EASY, SIDE, SIDE, seed=13).float()
    U, S, Vh = truncated_svd(matrix, 8, blocks=blocks)
    other_U, other_S, other_Vh = truncated_svd(matrix * scale, 8, blocks=blocks)
    torch.testing.assert_close(other_S / scale, S, rtol=1e-5, atol=0)
    torch.testing.assert_close((other_U * other_S / scale) @ other_Vh, (U * S) @ Vh)


@each_kind
def test_sizes_beyond_single_precision_do_not_vanish_in_double(blocks):
    matrix = matrix_with_spectrum(EASY, SIDE, SIDE, seed=14)
    _, S, _ = truncated_svd(matrix, 8, blocks=blocks)
    _, other, _ = truncated_svd(matrix * 1e-200, 8, blocks=blocks)
    torch.testing.assert_close(other, S * 1e-200)


def test_matrices_of_one_shape_are_decomposed_as_each_alone():
    matrices = [random_matrix(SIDE, 2 * SIDE, seed=seed).sign().float() for seed in range(3)]
    together = truncated_svds(matrices, 8, generators=[None] * 3, blocks="wide")
    for matrix, (U, S, Vh) in zip(matrices, together, strict=True):
        alone_U, alone_S, alone_Vh = truncated_svd(matrix, 8, blocks="wide")
        torch.testing.assert_close(S, alone_S, rtol=1e-4, atol=0)
        torch.testing.assert_close((U * S) @ Vh, (alone_U * alone_S) @ alone_Vh, rtol=0, atol=1e-2)


@each_kind
def test_autocast_does_not_round_what_is_decomposed(blocks):
    matrix = matrix_with_spectrum(EASY, SIDE, SIDE, seed=15).float()
    expected = truncated_svd(matrix, 8, blocks=blocks)
    with torch.autocast("cpu", torch.bfloat16):
        found = truncated_svd(matrix, 8, blocks=blocks)
    assert all(torch.equal(one, two) for one, two in zip(found, expected, strict=True))


def test_the_exact_decomposition_takes_over_when_iterations_do_not_suffice():
    matrix = random_matrix(LARGE, LARGE, seed=5).sign()
    _, S, _ = truncated_svd(matrix, 4, iterations=1)
    torch.testing.assert_close(S, torch.linalg.svdvals(matrix)[:4], rtol=1e-12, atol=0)


def test_the_entry_largest_in_magnitude_is_positive_in_each_left_vector():
    for matrix in (random_matrix(7, 5, seed=6), -random_matrix(7, 5, seed=6)):
        U, _, _ = truncated_svd(matrix, 5)
        assert (U.amax(dim=0) > -U.amin(dim=0)).all()


@pytest.mark.parametrize("side", [5, LARGE])
def test_the_result_can_be_stored_as_it_lies(side):
    matrix = matrix_with_spectrum([3.0, 2.0, 1.0], side, side, seed=11)
    assert all(part.is_contiguous() for part in truncated_svd(matrix, 2))


def test_the_result_depends_on_matrix_and_generator_alone():
    matrix = matrix_with_spectrum(1 / torch.arange(1, LARGE + 1), LARGE, LARGE, seed=7)
    first, second = truncated_svd(matrix, 4), truncated_svd(matrix, 4)
    assert all(torch.equal(one, two) for one, two in zip(first, second, strict=True))
    other = truncated_svd(matrix, 4, generator=torch.Generator().manual_seed(1))
    assert not torch.equal(first[0], other[0])


def test_the_global_random_state_is_left_alone():
    before = torch.get_rng_state()
    truncated_svd(random_matrix(LARGE, LARGE, seed=8), 4)
    assert torch.equal(torch.get_rng_state(), before)


def test_half_precision_is_decomposed_in_float32():
    U, S, Vh = truncated_svd(random_matrix(6, 4, seed=9).bfloat16(), 2)
    assert {U.dtype, S.dtype, Vh.dtype} == {torch.float32}


def test_a_rank_above_the_smaller_side_is_refused():
    with pytest.raises(
        ValueError, match=r"between 1 and 4 \(the smaller side of the matrix\), got 5"
    ):
        truncated_svd(random_matrix(6, 4, seed=10), 5)


def test_the_large_matrices_of_this_file_are_large():
    assert svd.EXACT_SIDE < LARGE
