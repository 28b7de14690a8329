"""DeLoRA's change: values by hand, components without direction, refusals."""

from __future__ import annotations

import pytest
import torch

from rankwise.functional import delora_delta
from rankwise.functional.delora import delora_gains

from .matrices import random_matrix


def test_each_component_is_normalised_and_each_column_scaled():
    B = torch.tensor([[3.0, 0.0], [4.0, 2.0]])
    A = torch.tensor([[0.0, 2.0], [5.0, 0.0]])
    delta = delora_delta(B, A, 4.0, torch.tensor([10.0, 1.0]))
    # λ/r = 2; b_1 a_1 -> [[0, 0.6], [0, 0.8]], b_2 a_2 -> [[0, 0], [1, 0]]; columns times 10 and 1
    torch.testing.assert_close(delta, torch.tensor([[0.0, 1.2], [20.0, 1.6]]))


def test_the_initial_change_is_subtracted_under_the_current_strength():
    B, A, B0, A0 = (random_matrix(*s, seed=i) for i, s in enumerate([(4, 2), (2, 3)] * 2))
    norms = random_matrix(3, seed=9).abs()
    torch.testing.assert_close(
        delora_delta(B, A, 3.0, norms, B0=B0, A0=A0),
        delora_delta(B, A, 3.0, norms) - delora_delta(B0, A0, 3.0, norms),
    )


@pytest.mark.parametrize("strength", [12, 12.0, torch.tensor(12.0), torch.tensor([12.0])])
def test_strength_may_be_a_number_or_a_tensor_of_one_element(strength):
    B, A = torch.tensor([[1.0]]), torch.tensor([[1.0]])
    torch.testing.assert_close(delora_delta(B, A, strength, torch.ones(1)), torch.tensor([[12.0]]))


def with_zeroed(B, A, part):
    if part == "column of B":
        B[:, 1] = 0
    else:
        A[1] = 0
    return B.requires_grad_(), A.requires_grad_()


@pytest.mark.parametrize("part", ["column of B", "row of A"])
def test_a_component_without_direction_contributes_nothing_and_has_no_gradient(part):
    B, A = with_zeroed(random_matrix(4, 2, seed=1), random_matrix(2, 3, seed=2), part)
    delta = delora_delta(B, A, 3.0, torch.ones(3))
    # r still counts the silent component.
    torch.testing.assert_close(delta, delora_delta(B[:, :1], A[:1], 1.5, torch.ones(3)))
    grad_B, grad_A = torch.autograd.grad((delta * random_matrix(4, 3, seed=3)).sum(), (B, A))
    assert (grad_B[:, 1] == 0).all()
    assert (grad_A[1] == 0).all()
    assert (grad_B[:, 0] != 0).all()
    assert (grad_A[0] != 0).all()


def test_the_gradients_are_those_of_the_formula():
    factors = [random_matrix(*s, seed=i) for i, s in enumerate([(4, 2), (2, 3), (1,)])]
    norms = random_matrix(3, seed=9).abs()
    B0, A0 = random_matrix(4, 2, seed=10), random_matrix(2, 3, seed=11)
    assert torch.autograd.gradcheck(
        lambda B, A, strength: delora_delta(B, A, strength, norms, B0=B0, A0=A0),
        [factor.requires_grad_() for factor in factors],
    )


def test_gains_invert_the_norms_and_a_minimum_bounds_them():
    B = torch.tensor([[3.0, 0.0], [4.0, 1e-9]])
    A = torch.tensor([[0.0, 2.0], [0.5, 0.0]])
    torch.testing.assert_close(delora_gains(B, A, 8.0), torch.tensor([0.4, 8e9]))
    bounded = delora_gains(B, A, 8.0, minimum_norm=1e-4)
    torch.testing.assert_close(bounded, torch.tensor([0.4, 8e4]))


B, A, NORMS = torch.ones(4, 2), torch.ones(2, 3), torch.ones(3)


@pytest.mark.parametrize(
    ("positional", "keywords", "message"),
    [
        ((B, A.T, 1.0, NORMS), {}, r"got B \(4, 2\) and A \(3, 2\)"),
        ((B, A, 1.0, torch.ones(4)), {}, r"column_norms must have shape \(3,\).* got \(4,\)"),
        ((B, A, 1.0, NORMS), {"B0": B}, "B0 and A0 belong together"),
        ((B, A, 1.0, NORMS), {"A0": A}, "B0 and A0 belong together"),
        ((B, A, 1.0, NORMS), {"B0": B[:3], "A0": A}, r"whose product has shape \(4, 3\)"),
    ],
)
def test_a_wrong_argument_is_refused(positional, keywords, message):
    with pytest.raises(ValueError, match=message):
        delora_delta(*positional, **keywords)
