"""What the theory around ABM-LoRA says, in float64: the tangent space, and what the loss can do."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rankwise.functional import (
    boundary_loss,
    information_loss,
    sign_agreement,
    tangent_projection,
)

from .matrices import random_matrix

properties = settings(max_examples=40)
seeds = st.integers(0, 10**6)


@st.composite
def layers(draw) -> tuple[Tensor, Tensor, Tensor]:
    """A gradient and a pair of factors of full rank: (G, B, A)."""
    m, n = draw(st.integers(2, 8)), draw(st.integers(2, 8))
    r, seed = draw(st.integers(1, min(m, n))), draw(seeds)
    shapes = [(m, n), (m, r), (r, n)]
    G, B, A = (random_matrix(*shape, seed=seed + i) for i, shape in enumerate(shapes))
    return G, B, A


@properties
@given(layers())
def test_projecting_twice_is_projecting_once(layer):
    G, B, A = layer
    once = tangent_projection(G, B, A)
    torch.testing.assert_close(tangent_projection(once, B, A), once)


@properties
@given(layers(), seeds)
def test_the_projection_is_symmetric(layer, seed):
    G, B, A = layer
    other = random_matrix(*G.shape, seed=seed)
    torch.testing.assert_close(
        (tangent_projection(G, B, A) * other).sum(), (G * tangent_projection(other, B, A)).sum()
    )


@properties
@given(layers())
def test_every_first_order_change_lies_in_the_tangent_space(layer):
    _, B, A = layer
    change = random_matrix(*B.shape, seed=1) @ A + B @ random_matrix(*A.shape, seed=2)
    torch.testing.assert_close(tangent_projection(change, B, A), change)


def dimension(B: Tensor, A: Tensor) -> float:
    """The trace of the projection, one basis matrix at a time."""
    m, n = B.shape[0], A.shape[1]
    basis = torch.eye(m * n).double().reshape(-1, m, n)
    return float(sum((unit * tangent_projection(unit, B, A)).sum() for unit in basis))


@pytest.mark.parametrize("r", [1, 2, 4])
def test_the_dimension_is_that_of_the_matrices_of_rank_r(r):
    B, A = random_matrix(6, r, seed=1), random_matrix(r, 4, seed=2)
    assert dimension(B, A) == pytest.approx(r * (6 + 4 - r))
    assert dimension(0 * B, A) == pytest.approx(r * 6)


@properties
@given(layers())
def test_what_is_followed_and_what_is_lost_add_up(layer):
    G, B, A = layer
    followed = tangent_projection(G, B, A).square().sum()
    torch.testing.assert_close(followed + information_loss(G, B, A), G.square().sum())


@properties
@given(layers(), seeds)
def test_the_loss_depends_on_the_spaces_and_not_on_their_bases(layer, seed):
    G, B, A = layer
    r = len(A)
    rotation = torch.linalg.qr(random_matrix(r, r, seed=seed)).Q
    M = rotation * torch.logspace(-1, 1, r, dtype=torch.float64)
    mixed = information_loss(G, B @ M, torch.linalg.inv(M) @ A)
    torch.testing.assert_close(mixed, information_loss(G, B, A))


@properties
@given(layers())
def test_nothing_is_lost_where_the_columns_of_B_span_the_gradient(layer):
    _, B, A = layer
    G = B @ random_matrix(*A.shape, seed=3)
    assert information_loss(G, B, A, relative=True) < 1e-20


@properties
@given(layers(), seeds)
def test_more_rank_never_loses_more(layer, seed):
    G, B, A = layer
    wider_B = torch.cat([B, random_matrix(len(B), 1, seed=seed)], dim=1)
    wider_A = torch.cat([A, random_matrix(1, A.shape[1], seed=seed + 1)])
    rounding = 1e-12 * G.square().sum()
    assert information_loss(G, wider_B, wider_A) <= information_loss(G, B, A) + rounding


@properties
@given(layers())
def test_no_factors_lose_less_than_the_tail_beyond_2r(layer):
    G, B, A = layer
    tail = torch.linalg.svdvals(G)[2 * len(A) :].square().sum()
    assert information_loss(G, B, A) >= tail * (1 - 1e-12)


@pytest.mark.parametrize("r", [1, 2, 3])
def test_two_different_halves_of_the_spectrum_reach_that_bound(r):
    G = random_matrix(9, 7, seed=4)
    U, S, Vh = torch.linalg.svd(G, full_matrices=False)
    different = information_loss(G, U[:, r : 2 * r], Vh[:r])
    same = information_loss(G, U[:, :r], Vh[:r])
    torch.testing.assert_close(different, S[2 * r :].square().sum())
    torch.testing.assert_close(same, S[r:].square().sum())


def test_a_gradient_step_on_the_factors_is_not_the_projection():
    target, scaling, lr = random_matrix(6, 5, seed=5), 2.0, 1e-6
    B, A = (random_matrix(*s, seed=i).requires_grad_() for i, s in enumerate([(6, 2), (2, 5)]))
    loss = (scaling * B @ A - target).square().sum() / 2
    grad_B, grad_A = torch.autograd.grad(loss, (B, A))
    with torch.no_grad():
        G = scaling * B @ A - target
        moved = scaling * ((B - lr * grad_B) @ (A - lr * grad_A) - B @ A)
        step = -lr * scaling**2 * (B @ B.T @ G + G @ A.T @ A)
        assert (moved - step).norm() < 1e-4 * step.norm()
        projection = -tangent_projection(G, B, A)
        assert torch.cosine_similarity(step.ravel(), projection.ravel(), dim=0) < 0.95


def test_without_a_margin_an_own_reference_leaves_nothing_to_do():
    z = random_matrix(8, 5, seed=6).requires_grad_()
    loss = boundary_loss([z], [z.detach()], margin=0.0, layer_weights=[1.0])
    assert loss == 0
    assert (torch.autograd.grad(loss, z)[0] == 0).all()


def test_with_the_base_as_reference_only_the_margin_acts():
    z = random_matrix(8, 5, seed=7).requires_grad_()
    assert sign_agreement([z], [z]) == 1
    loss = boundary_loss([z], [z.detach()], margin=0.5, layer_weights=[1.0])
    (gradient,) = torch.autograd.grad(loss, z)
    assert torch.equal(gradient != 0, z.abs() < 0.5)
    assert torch.equal(gradient.sign()[gradient != 0], -z.sign()[gradient != 0])
