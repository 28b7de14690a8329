"""What the formulas refuse, and in which words."""

from __future__ import annotations

import pytest
import torch

from rankwise.functional.arguments import (
    check_factors,
    check_gradient,
    check_matrix,
    check_rank,
    working_dtype,
)


@pytest.mark.parametrize(
    ("dtypes", "expected"),
    [
        ([torch.bfloat16], torch.float32),
        ([torch.float16, torch.bfloat16], torch.float32),
        ([torch.float32, torch.float64], torch.float64),
    ],
)
def test_computes_in_the_widest_dtype_and_float32_at_least(dtypes, expected):
    assert working_dtype(*(torch.zeros(1, dtype=dtype) for dtype in dtypes)) is expected


@pytest.mark.parametrize("r", [0, -1, 65, 2.0])
def test_a_rank_that_does_not_fit_is_refused_with_its_limit(r):
    message = rf"r must be between 1 and 64 \(the smaller side of the matrix\), got {r}"
    with pytest.raises(ValueError, match=message):
        check_rank(r, 64, "the smaller side of the matrix")


@pytest.mark.parametrize("r", [1, 64])
def test_the_limits_themselves_are_accepted(r):
    check_rank(r, 64, "the smaller side of the matrix")


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (torch.zeros(3), r"G must be a floating-point matrix \(out, in\), got shape \(3,\)"),
        (torch.zeros(3, 2, dtype=torch.int64), "floating-point matrix .* torch.int64"),
        (torch.tensor([[0.0, float("nan")]]), "G holds NaN or infinite values"),
        (torch.tensor([[0.0, float("inf")]]), "G holds NaN or infinite values"),
    ],
)
def test_only_finite_matrices_are_accepted(matrix, message):
    with pytest.raises(ValueError, match=message):
        check_matrix(matrix, "G")


def test_a_gradient_without_direction_is_refused():
    with pytest.raises(ValueError, match="gradient is zero everywhere"):
        check_gradient(torch.zeros(2, 3))


@pytest.mark.parametrize(
    ("B", "A", "shape"),
    [
        (torch.zeros(4, 2), torch.zeros(3, 5), None),
        (torch.zeros(4), torch.zeros(4, 5), None),
        (torch.zeros(4, 2), torch.zeros(2, 5), (5, 4)),
    ],
)
def test_factors_that_do_not_multiply_to_the_weight_are_refused(B, A, shape):
    with pytest.raises(ValueError, match=r"B must be \(out, r\) and A \(r, in\)"):
        check_factors(B, A, shape)
