"""LoRA-SB's factors of the first full fine-tuning update."""

from __future__ import annotations

import pytest
import torch

from rankwise.functional import update_factors

from .matrices import matrix_with_spectrum, random_matrix


def test_the_sign_update_of_a_rank_one_pattern_is_exact():
    signs = torch.tensor([1.0, -1.0, 1.0]).outer(torch.tensor([1.0, -1.0])).double()
    gradient = signs * random_matrix(3, 2, seed=1).abs()
    B, R, A = update_factors(gradient, r=1, lr=0.25)
    torch.testing.assert_close(B @ R @ A, -0.25 * signs)
    torch.testing.assert_close(R, torch.tensor([[0.25 * 6**0.5]], dtype=torch.float64))


def test_the_raw_update_keeps_the_leading_directions_of_the_gradient():
    gradient = torch.diag(torch.tensor([1.0, 3.0, 2.0]))
    B, R, A = update_factors(gradient, r=2, lr=0.5, mode="raw")
    torch.testing.assert_close(B @ R @ A, torch.diag(torch.tensor([0.0, -1.5, -1.0])))


@pytest.mark.parametrize("mode", ["sign", "raw"])
@pytest.mark.parametrize("shape", [(9, 5), (5, 9)])
def test_the_outer_factors_are_orthonormal_and_the_core_descends_from_zero_up(shape, mode):
    B, R, A = update_factors(random_matrix(*shape, seed=2), r=4, lr=1e-3, mode=mode)
    torch.testing.assert_close(B.T @ B, torch.eye(4).double(), rtol=0, atol=1e-12)
    torch.testing.assert_close(A @ A.T, torch.eye(4).double(), rtol=0, atol=1e-12)
    values = R.diagonal()
    assert torch.equal(R, torch.diag(values))
    assert (values >= 0).all()
    assert (values.diff() <= 0).all()


def test_a_gradient_of_lower_rank_pads_the_core_with_zeros():
    gradient = matrix_with_spectrum([2.0, 1.0], 8, 6, seed=3)
    B, R, A = update_factors(gradient, r=4, lr=1.0, mode="raw")
    torch.testing.assert_close(R.diagonal(), torch.tensor([2, 1, 0, 0]).double())
    torch.testing.assert_close(B @ R @ A, -gradient)
    torch.testing.assert_close(B.T @ B, torch.eye(4).double())


def test_the_sign_of_zero_is_zero():
    gradient = torch.tensor([[5.0, 0.0], [0.0, 0.0]])
    B, R, A = update_factors(gradient, r=2, lr=1.0)
    torch.testing.assert_close(B @ R @ A, torch.tensor([[-1.0, 0.0], [0.0, 0.0]]))


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (torch.float64, torch.float64),
        (torch.float32, torch.float32),
        (torch.bfloat16, torch.float32),
    ],
)
def test_the_factors_keep_float32_at_least(given, kept):
    factors = update_factors(random_matrix(6, 4, seed=4).to(given), r=2, lr=1e-4)
    assert {factor.dtype for factor in factors} == {kept}


def test_a_tiny_learning_rate_scales_the_core_and_nothing_else():
    gradient = random_matrix(6, 4, seed=5)
    B, R, A = update_factors(gradient, r=2, lr=1.0)
    tiny_B, tiny_R, tiny_A = update_factors(gradient, r=2, lr=1e-30)
    assert torch.equal(B, tiny_B)
    assert torch.equal(A, tiny_A)
    torch.testing.assert_close(tiny_R, 1e-30 * R, rtol=1e-12, atol=0)


def test_the_generator_reaches_the_decomposition_of_a_large_gradient():
    gradient = random_matrix(300, 300, seed=6)
    seeded = [
        update_factors(gradient, r=4, lr=1.0, generator=torch.Generator().manual_seed(seed))[0]
        for seed in (0, 0, 1)
    ]
    assert torch.equal(seeded[0], seeded[1])
    assert not torch.equal(seeded[0], seeded[2])


def test_neither_the_gradient_nor_the_global_random_state_is_changed():
    gradient = random_matrix(300, 300, seed=7)
    copy, before = gradient.clone(), torch.get_rng_state()
    update_factors(gradient, r=4, lr=1.0)
    assert torch.equal(gradient, copy)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gradient": torch.zeros(6, 4)}, "gradient is zero everywhere"),
        ({"gradient": torch.full((6, 4), float("inf"))}, "gradient holds NaN or infinite"),
        ({"r": 5}, r"r must be between 1 and 4 \(the smaller side of the matrix\), got 5"),
        ({"lr": 0.0}, "lr must be positive and finite, got 0.0"),
        ({"lr": float("nan")}, "lr must be positive and finite, got nan"),
        ({"lr": float("inf")}, "lr must be positive and finite, got inf"),
        ({"mode": "adam"}, "mode must be 'sign' or 'raw', got 'adam'"),
    ],
)
def test_a_wrong_argument_is_refused(change, message):
    arguments = {"gradient": torch.ones(6, 4), "r": 2, "lr": 0.1, **change}
    with pytest.raises(ValueError, match=message):
        update_factors(arguments.pop("gradient"), **arguments)
