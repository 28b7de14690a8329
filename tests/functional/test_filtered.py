"""The search with one wide block: what it costs, and what it leaves to others."""

from __future__ import annotations

import pytest
import torch

from rankwise.functional import filtered
from rankwise.functional.filtered import exact_products, filter_triplets
from rankwise.functional.krylov import search_triplets

from .matrices import random_matrix


def sign_matrix(m=400, n=700, seed=1):
    return random_matrix(m, n, seed=seed).sign().float()


def filtered_triplets(matrices, r=16, rounds=8):
    generators = [torch.Generator().manual_seed(number) for number, _ in enumerate(matrices)]
    stack = torch.stack(matrices)
    triplets, found = filter_triplets(stack, r, width=r + 10, rounds=rounds, generators=generators)
    each = zip(zip(*triplets, strict=True), found, strict=True)
    return [one if is_found else None for one, is_found in each]


@pytest.fixture
def count(monkeypatch):
    """Count products with the matrices, reflections and eigenproblems."""
    counts = {"products": 0, "reflections": 0, "eigenproblems": 0}

    def counted(name, function):
        def call(*arguments, **options):
            counts[name] += 1
            return function(*arguments, **options)

        return call

    monkeypatch.setattr(filtered, "_times", counted("products", filtered._times))
    for name, function in (("reflections", "qr"), ("eigenproblems", "eigh")):
        original = getattr(torch.linalg, function)
        monkeypatch.setattr(torch.linalg, function, counted(name, original))
    return counts


@pytest.mark.parametrize("r", [16, 64])
def test_the_flat_spectrum_of_signs_takes_eleven_products_for_any_number_of_matrices(count, r):
    matrices = [sign_matrix(seed=seed) for seed in range(3)]
    assert None not in filtered_triplets(matrices, r)
    assert count == {"products": 11, "reflections": 0, "eigenproblems": 2}


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def test_signs_in_bfloat16_have_the_triplets_that_they_have_in_float32(device):
    signs = sign_matrix(seed=1).to(device)
    ((U, S, Vh),) = filtered_triplets([signs.bfloat16()])
    assert {part.dtype for part in (U, S, Vh)} == {torch.float32}
    ((expected_U, expected_S, expected_Vh),) = filtered_triplets([signs])
    torch.testing.assert_close(S, expected_S, rtol=1e-6, atol=0)
    # Where values lie close together their vectors are found within the tolerance alone.
    residual = signs @ Vh.mT - U * S
    expected = signs @ expected_Vh.mT - expected_U * expected_S
    torch.testing.assert_close(residual.norm(dim=0), expected.norm(dim=0), rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def test_products_of_signs_in_bfloat16_have_the_digits_of_float32(device):
    signs, columns = sign_matrix(seed=1).to(device), random_matrix(700, 5, seed=2).to(device)
    product = filtered._times(signs.bfloat16().unsqueeze(0), columns.float().unsqueeze(0)).double()
    exact = (signs.double() @ columns.float().double()).unsqueeze(0)
    assert product.sub(exact).norm() <= 4e-7 * exact.norm()


def test_a_steep_spectrum_takes_three_and_one_with_a_basis_that_was_not_to_be_trusted(count):
    steep = torch.diag(10.0 ** -torch.arange(300.0).clamp_max(30))
    assert None not in filtered_triplets([steep], 4)
    assert count["products"] == 3 + 1


@pytest.mark.parametrize("r", [4, 16, 64])
def test_it_loses_no_more_than_many_narrow_blocks_do(r):
    matrix = sign_matrix()
    optimum = torch.linalg.svdvals(matrix)[r:].square().sum()
    ((U, S, Vh),) = filtered_triplets([matrix], r)
    assert (matrix - (U * S) @ Vh).square().sum() <= (1 + 5e-3) * optimum
    generator = torch.Generator().manual_seed(0)
    found = search_triplets(matrix, r, width=r + 10, iterations=32, generator=generator)
    assert (S.square().sum() - found[1].square().sum()).abs() <= 5e-3 * optimum


def test_what_is_not_found_in_time_is_left_out_by_itself():
    easy = torch.diag(10.0 ** -torch.arange(400.0).clamp_max(30))
    hard = sign_matrix(400, 400)
    first, second = filtered_triplets([easy, hard], 16, rounds=0)
    assert first is not None
    assert second is None


class TestExactProducts:
    def test_autocast_is_off(self):
        with torch.autocast("cpu", torch.bfloat16), exact_products(torch.device("cpu")):
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32

    def test_tf32_is_refused_and_allowed_again(self):
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("high")
        try:
            with exact_products(torch.device("cuda")):
                assert not torch.backends.cuda.matmul.allow_tf32
            assert torch.backends.cuda.matmul.allow_tf32
            assert torch.get_float32_matmul_precision() == "high"
        finally:
            torch.set_float32_matmul_precision(before)

    def test_the_newer_way_of_allowing_tf32_is_known_too(self):
        matmul = torch.backends.cuda.matmul
        if not hasattr(matmul, "fp32_precision"):
            pytest.skip("torch has it from 2.9 on")
        before = matmul.fp32_precision
        matmul.fp32_precision = "tf32"
        try:
            with exact_products(torch.device("cuda")):
                assert matmul.fp32_precision == "ieee"
            assert matmul.fp32_precision == "tf32"
        finally:
            matmul.fp32_precision = before
