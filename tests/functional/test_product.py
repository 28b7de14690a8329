"""A product that is not formed: the same answers as the matrix, for less where it says so."""

from __future__ import annotations

import pytest
import torch

from rankwise.functional import update_factors
from rankwise.functional.product import Product, times
from rankwise.functional.svd import truncated_svd

from .matrices import random_matrix


def product(m=300, k=40, n=500, dtype=torch.float64):
    left, right = random_matrix(m, k, seed=1), random_matrix(k, n, seed=2)
    return Product(left.to(dtype), right.to(dtype))


def test_it_multiplies_as_the_matrix_does():
    M = product()
    vectors = random_matrix(500, 3, seed=3)
    torch.testing.assert_close(M @ vectors, M.dense() @ vectors)
    torch.testing.assert_close(M.T.dense(), M.dense().T)
    assert M.shape == M.dense().shape
    assert M.T.shape == M.dense().T.shape


@pytest.mark.parametrize("is_transposed", [False, True])
def test_few_vectors_are_multiplied_in_the_order_of_the_memory(is_transposed):
    matrix = random_matrix(7, 5, seed=4)
    matrix = random_matrix(5, 7, seed=4).T if is_transposed else matrix
    vectors = random_matrix(5, 2, seed=5)
    torch.testing.assert_close(times(matrix, vectors), matrix @ vectors)


@pytest.mark.parametrize(("m", "n", "tokens"), [(64, 64, 16), (64, 256, 512), (64, 64, 4096)])
def test_it_pays_where_fewer_multiplications_are_made(m, n, tokens):
    M = product(m, tokens, n)
    for vectors in (1, 10, 100, 1000):
        through_factors = vectors * tokens * (m + n)
        through_matrix = m * tokens * n + vectors * m * n
        assert M.pays(vectors) == (through_factors < through_matrix)


@pytest.mark.parametrize("r", [4, 16, 50])
def test_its_decomposition_is_that_of_the_matrix_also_above_its_rank(r):
    M = product()
    U, S, Vh = truncated_svd(M, r)
    exact = torch.linalg.svdvals(M.dense())
    torch.testing.assert_close(S, exact[:r], rtol=2e-2, atol=1e-9 * exact[0].item())
    torch.testing.assert_close(U.T @ U, torch.eye(r).double(), rtol=0, atol=1e-9)
    torch.testing.assert_close(Vh @ Vh.T, torch.eye(r).double(), rtol=0, atol=1e-9)


def test_it_is_not_formed_where_it_pays(monkeypatch):
    monkeypatch.setattr(Product, "dense", lambda _: pytest.fail("the matrix was formed"))
    truncated_svd(product(300, 40, 500), 4)


@pytest.mark.parametrize("mode", ["sign", "raw"])
def test_the_first_update_is_that_of_the_gradient(mode):
    M = product(12, 5, 9)
    for ours, dense in zip(
        update_factors(M, r=3, lr=0.1, mode=mode),
        update_factors(M.dense(), r=3, lr=0.1, mode=mode),
        strict=True,
    ):
        torch.testing.assert_close(ours, dense)


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_factor_without_a_direction_is_refused(side):
    M = product(12, 5, 9)
    getattr(M, side).zero_()
    with pytest.raises(ValueError, match="zero everywhere"):
        update_factors(M, r=3, lr=0.1, mode="raw")
    getattr(M, side).fill_(torch.nan)
    with pytest.raises(ValueError, match="NaN or infinite"):
        update_factors(M, r=3, lr=0.1, mode="raw")


@pytest.mark.parametrize("rows", [8192, 16])
def test_factors_in_half_precision_are_accumulated_in_single(monkeypatch, rows):
    monkeypatch.setattr("rankwise.functional.product.ROWS_AT_A_TIME", rows)
    half = product(dtype=torch.bfloat16)
    exact = half.left.double() @ half.right.double()
    assert half.dtype == half.dense().dtype == torch.float32
    torch.testing.assert_close(half.dense().double(), exact, rtol=1e-5, atol=1e-4)
    total = torch.ones(half.shape)
    torch.testing.assert_close(half.add_to(total).double(), exact + 1, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("blocks", ["narrow", "wide"])
def test_a_product_in_half_precision_is_decomposed_in_single(blocks):
    half = product(m=300, k=30, n=400, dtype=torch.bfloat16)
    _, S, _ = truncated_svd(half, 4, blocks=blocks)
    exact = torch.linalg.svdvals(half.left.double() @ half.right.double())[:4]
    torch.testing.assert_close(S.double(), exact, rtol=1e-2, atol=0)
