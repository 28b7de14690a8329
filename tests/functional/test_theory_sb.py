"""What the theory of LoRA-SB says, in float64: the best first update, the gradient of the core."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import linear, mse_loss

from rankwise.functional import (
    corrected_core_gradient,
    equivalent_gradient,
    information_loss,
    update_factors,
)

from .matrices import projector, random_matrix

SCALES = [0.1, 1.0, 10.0]


class Layer:
    """y = x (s B R A)ᵀ with a mean squared error: ∇ for the weight (g) and for the core (g_R)."""

    def __init__(self, scale: float = 1.0):
        self.x, self.target = random_matrix(20, 6, seed=1), random_matrix(20, 7, seed=2)
        self.B, self.A = random_matrix(7, 3, seed=3), random_matrix(3, 6, seed=4)
        self.R, self.scale = random_matrix(3, 3, seed=5), scale

    def loss(self, weight: Tensor) -> Tensor:
        return mse_loss(linear(self.x, weight), self.target)

    def weight(self, R: Tensor) -> Tensor:
        return self.scale * self.B @ R @ self.A

    def gradients(self) -> tuple[Tensor, Tensor]:
        R = self.R.clone().requires_grad_()
        weight = self.weight(self.R).requires_grad_()
        (g,) = torch.autograd.grad(self.loss(weight), weight)
        (g_R,) = torch.autograd.grad(self.loss(self.weight(R)), R)
        return g, g_R

    def corrected(self, g_R: Tensor) -> Tensor:
        return corrected_core_gradient(g_R, self.B, self.A, scaling=self.scale)

    def equivalent(self, g_R: Tensor) -> Tensor:
        return equivalent_gradient(g_R, self.B, self.A, scaling=self.scale)


@settings(max_examples=40)
@given(
    m=st.integers(2, 9),
    n=st.integers(2, 9),
    seed=st.integers(0, 10**6),
    mode=st.sampled_from(["sign", "raw"]),
    data=st.data(),
)
def test_the_first_update_is_approximated_best(m, n, seed, mode, data):
    r = data.draw(st.integers(1, min(m, n)))
    gradient = random_matrix(m, n, seed=seed)
    update = -0.01 * (gradient.sign() if mode == "sign" else gradient)
    B, R, A = update_factors(gradient, r=r, lr=0.01, mode=mode)
    missed = (update - B @ R @ A).square().sum()
    tail = torch.linalg.svdvals(update)[r:].square().sum()
    torch.testing.assert_close(missed, tail, rtol=1e-9, atol=1e-16)

    rival = random_matrix(m, r, seed=seed + 1)
    nearest = rival @ torch.linalg.lstsq(rival, update).solution
    assert missed <= (update - nearest).square().sum() + 1e-16


@pytest.mark.parametrize("scale", SCALES)
def test_the_gradient_of_the_core_is_the_sketched_gradient(scale):
    layer = Layer(scale)
    g, g_R = layer.gradients()
    torch.testing.assert_close(g_R, scale * layer.B.T @ g @ layer.A.T)


def test_the_corrected_gradient_does_not_depend_on_the_scale():
    reference = Layer()
    g, _ = reference.gradients()
    projected = projector(reference.B) @ g @ projector(reference.A.T)
    for scale in SCALES:
        layer = Layer(scale)
        g_R = scale * layer.B.T @ g @ layer.A.T
        torch.testing.assert_close(layer.equivalent(layer.corrected(g_R)), projected)
        plain_error = (layer.equivalent(g_R) - projected).norm() / projected.norm()
        assert plain_error > 0.5


@pytest.mark.parametrize("scale", SCALES)
def test_the_corrected_gradient_is_the_nearest_that_the_core_can_follow(scale):
    layer = Layer(scale)
    g, g_R = layer.gradients()
    operator = scale * torch.kron(layer.B, layer.A.T.contiguous())
    nearest = torch.linalg.lstsq(operator, g.reshape(-1, 1)).solution.reshape(3, 3)
    torch.testing.assert_close(layer.corrected(g_R), nearest)


def test_with_orthonormal_factors_and_unit_scale_no_correction_is_needed():
    layer = Layer()
    layer.B, _, layer.A = update_factors(random_matrix(7, 6, seed=6), r=3, lr=1.0)
    _, g_R = layer.gradients()
    torch.testing.assert_close(layer.corrected(g_R), g_R)


def test_a_small_corrected_step_lowers_the_loss_by_the_projected_gradient():
    layer, lr = Layer(), 1e-6
    g, g_R = layer.gradients()
    projected = projector(layer.B) @ g @ projector(layer.A.T)
    before = layer.loss(layer.weight(layer.R))
    after = layer.loss(layer.weight(layer.R - lr * layer.corrected(g_R)))
    torch.testing.assert_close(after - before, -lr * projected.square().sum(), rtol=1e-4, atol=0)


def test_updates_stay_between_the_frozen_factors():
    layer = Layer()
    _, g_R = layer.gradients()
    moved = layer.weight(layer.R - 0.1 * g_R) - layer.weight(layer.R)
    torch.testing.assert_close(projector(layer.B) @ moved @ projector(layer.A.T), moved)


@pytest.mark.parametrize("r", [1, 2, 4])
def test_the_subspace_of_the_signs_is_worse_for_the_gradient_than_its_own(r):
    gradient = random_matrix(8, 7, seed=7)
    tail = torch.linalg.svdvals(gradient)[r:].square().sum()
    missed = {}
    for mode in ("sign", "raw"):
        B, _, A = update_factors(gradient, r=r, lr=1.0, mode=mode)
        missed[mode] = (gradient - B @ B.T @ gradient @ A.T @ A).square().sum()
        # Plain LoRA on the same factors moves B and A too, and follows more.
        assert information_loss(gradient, B, A) <= missed[mode] * (1 + 1e-12)
    torch.testing.assert_close(missed["raw"], tail)
    assert missed["sign"] > tail


def test_averaging_the_cores_of_clients_is_averaging_their_updates():
    B, A = random_matrix(7, 3, seed=8), random_matrix(3, 6, seed=9)
    cores = random_matrix(5, 3, 3, seed=10)
    torch.testing.assert_close((B @ cores @ A).mean(dim=0), B @ cores.mean(dim=0) @ A)
