"""The tangent projection on factors of every kind, and the loss of information beside it."""

from __future__ import annotations

import pytest
import torch

from rankwise.functional import information_loss, tangent_projection

from .matrices import projector, random_matrix

GRADIENT = random_matrix(7, 6, seed=1)


def factor_pairs():
    B, A = random_matrix(7, 3, seed=2), random_matrix(3, 6, seed=3)
    deficient_B = torch.cat([B[:, :2], B[:, :1] - 2 * B[:, 1:2]], dim=1)
    return {
        "full rank": (B, A),
        "B zero": (0 * B, A),
        "A zero": (B, 0 * A),
        "both zero": (0 * B, 0 * A),
        "B rank-deficient": (deficient_B, A),
        "tiny": (1e-200 * B, 1e-12 * A),
        "wider than the weight": (random_matrix(7, 9, seed=4), random_matrix(9, 6, seed=5)),
    }


@pytest.mark.parametrize("pair", factor_pairs().values(), ids=factor_pairs().keys())
def test_the_projection_is_that_of_the_projectors(pair):
    B, A = pair
    outside_B = torch.eye(7).double() - projector(B)
    outside_A = torch.eye(6).double() - projector(A.T)
    outside = outside_B @ GRADIENT @ outside_A
    torch.testing.assert_close(tangent_projection(GRADIENT, B, A), GRADIENT - outside)
    loss = information_loss(GRADIENT, B, A)
    torch.testing.assert_close(loss, outside.square().sum(), rtol=1e-9, atol=1e-12)


def test_a_fresh_lora_follows_what_lies_in_the_rows_of_A():
    A = random_matrix(2, 6, seed=6)
    projection = tangent_projection(GRADIENT, torch.zeros(7, 2).double(), A)
    torch.testing.assert_close(projection, GRADIENT @ projector(A.T))


def test_the_relative_loss_is_the_share_of_the_squared_norm():
    B, A = random_matrix(7, 2, seed=7), random_matrix(2, 6, seed=8)
    share = information_loss(GRADIENT, B, A) / GRADIENT.square().sum()
    torch.testing.assert_close(information_loss(GRADIENT, B, A, relative=True), share)


def test_the_relative_loss_of_a_tiny_gradient_does_not_underflow():
    B, A = torch.zeros(7, 2), random_matrix(2, 6, seed=9).float()
    tiny = information_loss(1e-30 * GRADIENT.float(), B, A, relative=True)
    torch.testing.assert_close(tiny, information_loss(GRADIENT.float(), B, A, relative=True))


def test_half_precision_is_computed_in_float32():
    B, A = torch.zeros(7, 2).bfloat16(), random_matrix(2, 6, seed=10).bfloat16()
    assert tangent_projection(GRADIENT.bfloat16(), B, A).dtype is torch.float32
    assert information_loss(GRADIENT.bfloat16(), B, A).dtype is torch.float32


def test_factors_of_zero_lose_the_whole_gradient_in_any_precision():
    for dtype in (torch.bfloat16, torch.float32, torch.float64):
        gradient, B, A = (torch.zeros(s, dtype=dtype) for s in [(7, 6), (7, 2), (2, 6)])
        gradient += GRADIENT.to(dtype)
        assert information_loss(gradient, B, A, relative=True) == 1


def test_trained_factors_leave_no_graph():
    B, A = torch.ones(7, 2, requires_grad=True), torch.ones(2, 6, requires_grad=True)
    assert not tangent_projection(GRADIENT, B, A).requires_grad
    assert not information_loss(GRADIENT, B, A, relative=True).requires_grad


def test_a_zero_gradient_loses_nothing_but_has_no_share():
    zero, B, A = torch.zeros(7, 6), torch.ones(7, 2), torch.ones(2, 6)
    assert information_loss(zero, B, A) == 0
    with pytest.raises(ValueError, match="gradient is zero everywhere"):
        information_loss(zero, B, A, relative=True)


@pytest.mark.parametrize("function", [tangent_projection, information_loss])
@pytest.mark.parametrize(
    ("gradient", "B", "A", "message"),
    [
        (GRADIENT, torch.ones(6, 2), torch.ones(2, 6), r"whose product has shape \(7, 6\)"),
        (GRADIENT, torch.ones(7, 2), torch.ones(3, 6), r"got B \(7, 2\) and A \(3, 6\)"),
        (GRADIENT * float("nan"), torch.ones(7, 2), torch.ones(2, 6), "gradient holds NaN"),
        (GRADIENT, torch.ones(7, 2) / 0, torch.ones(2, 6), "B holds NaN"),
        (GRADIENT, torch.ones(7, 2), torch.ones(2, 6) / 0, "A holds NaN"),
    ],
)
def test_a_wrong_argument_is_refused(function, gradient, B, A, message):
    with pytest.raises(ValueError, match=message):
        function(gradient, B, A)
