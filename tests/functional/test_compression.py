"""Sums of low-rank changes, brought to one rank."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rankwise.functional import compress
from rankwise.functional.compression import without_excess_rank

from .matrices import random_matrix


def random_factors(m: int, n: int, ranks: list[int], seed: int):
    return [
        (random_matrix(m, rank, seed=seed + 2 * i), random_matrix(rank, n, seed=seed + 2 * i + 1))
        for i, rank in enumerate(ranks)
    ]


def total(factors):
    return sum(B @ A for B, A in factors)


@settings(max_examples=60)
@given(
    m=st.integers(1, 8),
    n=st.integers(1, 8),
    ranks=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    r=st.integers(1, 10),
    seed=st.integers(0, 10**6),
)
def test_it_is_the_truncated_svd_of_the_dense_sum(m, n, ranks, r, seed):
    factors = random_factors(m, n, ranks, seed)
    U, S, Vh = torch.linalg.svd(total(factors), full_matrices=False)
    B, A, error = compress(factors, r)
    assert B.shape == (m, r)
    assert A.shape == (r, n)
    torch.testing.assert_close(B @ A, (U[:, :r] * S[:r]) @ Vh[:r], rtol=1e-9, atol=1e-9)
    assert error == pytest.approx(float(S[r:].norm() / S.norm()), abs=1e-9)
    torch.testing.assert_close(B.T @ B, A @ A.T, rtol=1e-9, atol=1e-9)  # evenly shared


def test_nothing_is_lost_at_the_total_rank():
    factors = random_factors(9, 7, [2, 1, 3], seed=1)
    B, A, error = compress(factors, 6)
    assert error == 0.0
    torch.testing.assert_close(B @ A, total(factors))


def test_beyond_the_total_rank_it_pads_with_zeros():
    factors = random_factors(9, 7, [2], seed=2)
    B, A, error = compress(factors, 5)
    assert error == 0.0
    assert (B[:, 2:] == 0).all()
    assert (A[2:] == 0).all()
    torch.testing.assert_close(B @ A, total(factors))


def test_changes_that_cancel_leave_the_zero_change():
    B, A = torch.ones(3, 1), torch.ones(1, 4)
    new_B, new_A, error = compress([(B, A), (-B, A)], 1)
    torch.testing.assert_close(new_B @ new_A, torch.zeros(3, 4), rtol=0, atol=1e-6)
    assert compress([(0 * B, A)], 1)[2] == 0.0
    assert 0 <= error <= 1


def test_the_factors_keep_the_widest_dtype_and_float32_at_least():
    half = [(torch.ones(3, 1).bfloat16(), torch.ones(1, 4).bfloat16())]
    assert {factor.dtype for factor in compress(half, 1)[:2]} == {torch.float32}
    mixed = [*half, (torch.ones(3, 1).double(), torch.ones(1, 4))]
    assert {factor.dtype for factor in compress(mixed, 1)[:2]} == {torch.float64}


def test_the_result_of_trained_factors_carries_no_graph_and_can_be_stored_as_it_lies():
    trained = [(B.requires_grad_(), A.requires_grad_()) for B, A in random_factors(5, 6, [2], 3)]
    for factor in compress(trained, 1)[:2] + compress(trained, 3)[:2]:
        assert not factor.requires_grad
        assert factor.is_contiguous()


PAIR = (torch.ones(3, 1), torch.ones(1, 4))


@pytest.mark.parametrize(
    ("factors", "r", "message"),
    [
        ([], 1, "factors is empty"),
        ([PAIR], 0, "r must be an integer of at least 1, got 0"),
        ([PAIR, (torch.ones(2, 1), torch.ones(1, 4))], 1, r"whose product has shape \(3, 4\)"),
        ([(torch.ones(3, 2), torch.ones(1, 4))], 1, r"got B \(3, 2\) and A \(1, 4\)"),
        ([(torch.ones(3), torch.ones(1, 4))], 1, r"B must be \(out, r\)"),
        ([(torch.ones(3, 1) / 0, torch.ones(1, 4))], 1, "B holds NaN or infinite"),
        ([(torch.ones(3, 1), torch.ones(1, 4) / 0)], 1, "A holds NaN or infinite"),
    ],
)
def test_a_wrong_argument_is_refused(factors, r, message):
    with pytest.raises(ValueError, match=message):
        compress(factors, r)


@pytest.mark.parametrize(("m", "n", "k"), [(5, 9, 12), (9, 5, 12), (5, 5, 6), (5, 9, 5), (9, 5, 2)])
def test_no_more_rank_than_the_smaller_side_loses_nothing(m, n, k):
    B, A = random_matrix(m, k, seed=0).float(), random_matrix(k, n, seed=1).float()
    left, right = without_excess_rank(B, A)
    assert left.shape == (m, min(m, n, k))
    assert right.shape == (min(m, n, k), n)
    expected = B.double() @ A.double()
    error = (left.double() @ right.double() - expected).norm() / expected.norm()
    assert error < 2e-7


def test_factors_without_excess_stay_the_same_tensors():
    B, A = torch.ones(4, 2), torch.ones(2, 3)
    left, right = without_excess_rank(B, A)
    assert left is B
    assert right is A
