"""What the theory of DeLoRA says, in float64: strength apart from direction, and a gentle start."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rankwise.functional import delora_delta
from rankwise.functional.delora import delora_gains

from .matrices import random_matrix

properties = settings(max_examples=40)


@st.composite
def adapters(draw) -> tuple[Tensor, Tensor, float, Tensor, Tensor, Tensor]:
    """(B, A, λ, column norms, B0, A0)"""
    m, n, r = draw(st.integers(1, 7)), draw(st.integers(1, 7)), draw(st.integers(1, 5))
    seed, strength = draw(st.integers(0, 10**6)), draw(st.floats(1e-3, 50))
    shapes = [(m, r), (r, n), (m, r), (r, n), (m, n)]
    B, A, B0, A0, W = (random_matrix(*shape, seed=seed + i) for i, shape in enumerate(shapes))
    return B, A, strength, W.norm(dim=0), B0, A0


@properties
@given(adapters())
def test_the_change_is_bounded_by_strength_and_the_longest_column(adapter):
    B, A, strength, norms, B0, A0 = adapter
    bound = strength * norms.max() * (1 + 1e-12)
    assert delora_delta(B, A, strength, norms).norm() <= bound
    assert delora_delta(B, A, strength, norms, B0=B0, A0=A0).norm() <= 2 * bound


@pytest.mark.parametrize("r", [1, 4])
def test_both_bounds_are_reached_by_components_that_agree(r):
    B, A = random_matrix(5, 1, seed=1).repeat(1, r), random_matrix(1, 6, seed=2).repeat(r, 1)
    norms = torch.full((6,), 3.0, dtype=torch.float64)
    alone = delora_delta(B, A, 2.0, norms).norm()
    against = delora_delta(B, A, 2.0, norms, B0=-B, A0=A).norm()
    torch.testing.assert_close(alone, torch.tensor(6.0).double())
    torch.testing.assert_close(against, torch.tensor(12.0).double())


@properties
@given(adapters())
def test_the_change_is_proportional_to_the_strength(adapter):
    B, A, strength, norms, B0, A0 = adapter
    unit = delora_delta(B, A, 1.0, norms, B0=B0, A0=A0)
    torch.testing.assert_close(delora_delta(B, A, strength, norms, B0=B0, A0=A0), strength * unit)
    assert (delora_delta(B, A, 0.0, norms, B0=B0, A0=A0) == 0).all()


@properties
@given(adapters(), st.integers(0, 10**6))
def test_the_lengths_of_the_factors_do_not_matter(adapter, seed):
    B, A, strength, norms, _, _ = adapter
    scales = random_matrix(2, len(A), seed=seed).exp()
    torch.testing.assert_close(
        delora_delta(B * scales[0], scales[1].unsqueeze(1) * A, strength, norms),
        delora_delta(B, A, strength, norms),
    )


@properties
@given(adapters(), st.integers(0, 10**6))
def test_gradients_are_orthogonal_to_the_directions_that_they_turn(adapter, seed):
    B, A, strength, norms, B0, A0 = adapter
    B, A = B.requires_grad_(), A.requires_grad_()
    delta = delora_delta(B, A, strength, norms, B0=B0, A0=A0)
    loss = (delta * random_matrix(*delta.shape, seed=seed)).sum()
    grad_B, grad_A = torch.autograd.grad(loss, (B, A))
    for factor, gradient, dim in ((B, grad_B, 0), (A, grad_A, 1)):
        along = (gradient * factor).sum(dim=dim)
        rounding = 1e-12 * float(strength * norms.max()) * delta.numel()
        torch.testing.assert_close(along, torch.zeros_like(along), rtol=0, atol=rounding)


@properties
@given(adapters())
def test_the_initial_change_is_exactly_zero_but_its_gradient_is_not(adapter):
    *_, strength, norms, B0, A0 = adapter
    B, A = B0.clone().requires_grad_(), A0.clone().requires_grad_()
    delta = delora_delta(B, A, strength, norms, B0=B0, A0=A0)
    assert (delta == 0).all()
    # A direction in one dimension has nowhere to turn.
    turns = [factor for factor, room in ((B, B.shape[0]), (A, A.shape[1])) if room > 1]
    loss = (delta * random_matrix(*delta.shape, seed=3)).sum()
    for gradient in torch.autograd.grad(loss, turns) if turns else ():
        assert (gradient.abs() > 0).any()


def first_steps(B: Tensor, change) -> list[float]:
    """‖ΔW‖ after one step of Adam on B (lr in every entry), for learning rates 1e-3 and 1e-5."""
    loss = (change(B.requires_grad_()) * random_matrix(12, 10, seed=4)).sum()
    (gradient,) = torch.autograd.grad(loss, B)
    B = B.detach()
    return [float(change(B - lr * gradient.sign()).norm()) for lr in (1e-3, 1e-5)]


def test_the_first_step_is_proportional_to_the_learning_rate():
    B0, A0, norms = random_matrix(12, 4, seed=5), random_matrix(4, 10, seed=6), torch.ones(10)
    large, small = first_steps(B0.clone(), lambda B: delora_delta(B, A0, 8.0, norms, B0=B0, A0=A0))
    assert large / small == pytest.approx(100, rel=0.02)


def test_the_clamped_start_of_peft_jumps_at_any_learning_rate():
    A = random_matrix(4, 10, seed=6)

    def change(B):
        return (B * delora_gains(B, A, 8.0, minimum_norm=1e-4)) @ A

    large, small = first_steps(torch.zeros(12, 4).double(), change)
    assert large / small < 4
    assert small > 1
