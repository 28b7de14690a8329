"""The activation-boundary loss: values by hand, masks, reductions and refusals."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rankwise.functional import boundary_layer_weights, boundary_loss, sign_agreement
from rankwise.functional.boundary import unchecked_boundary_loss

from .matrices import random_matrix

NAN = float("nan")


def two_layers(seed: int) -> list[torch.Tensor]:
    return [random_matrix(3, 4, 5, seed=seed), random_matrix(3, 2, seed=seed + 1)]


@pytest.mark.parametrize(
    ("value", "reference", "cost"),
    [
        (2.0, 1.0, 0.0),  # beyond the margin, on the right side
        (0.5, 1.0, 0.0),  # on the margin
        (0.2, 1.0, 0.09),  # right side, too close
        (-1.0, 1.0, 2.25),  # wrong side
        (-0.2, -1.0, 0.09),
        (1.0, -1.0, 2.25),
        (1.0, 0.0, 2.25),  # zero counts as inactive
    ],
)
def test_one_neuron_costs_its_squared_distance_to_the_margin(value, reference, cost):
    student, target = torch.tensor([[value]]).double(), torch.tensor([[reference]])
    loss = boundary_loss([student], [target], margin=0.5, layer_weights=[1.0])
    torch.testing.assert_close(loss, torch.tensor(cost).double())


def test_mean_averages_elements_then_layers_and_weighs_once():
    student = [torch.tensor([[-1.0, 9.0]]), torch.tensor([[-2.0], [9.0]])]
    reference = [torch.ones(1, 2), torch.ones(2, 1)]
    loss = boundary_loss(student, reference, margin=0.0, layer_weights=[0.5, 3.0])
    # (0.5 · (1 + 0)/2 + 3 · (4 + 0)/2) / 2
    torch.testing.assert_close(loss, torch.tensor(3.125))


def test_sum_adds_neurons_and_layers_and_averages_positions():
    student = [torch.tensor([[-1.0, -3.0]]), torch.tensor([[-2.0], [9.0]])]
    reference = [torch.ones(1, 2), torch.ones(2, 1)]
    loss = boundary_loss(student, reference, margin=0.0, layer_weights=[0.5, 3.0], reduction="sum")
    # 0.5 · (1 + 9) + 3 · (4 + 0)/2
    torch.testing.assert_close(loss, torch.tensor(11.0))


def test_the_reference_may_be_the_signs_alone():
    student, reference = two_layers(1), two_layers(3)
    signs = [layer > 0 for layer in reference]
    arguments = {"margin": 0.5, "layer_weights": [0.25, 1.0]}
    assert torch.equal(
        boundary_loss(student, signs, **arguments), boundary_loss(student, reference, **arguments)
    )
    assert torch.equal(sign_agreement(student, signs), sign_agreement(student, reference))


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_gradient_is_that_of_the_formula(reduction):
    student = [layer.requires_grad_() for layer in two_layers(5)]
    reference = two_layers(7)

    def loss(*layers):
        return boundary_loss(
            layers, reference, margin=0.5, layer_weights=[0.25, 1.0], reduction=reduction
        )

    assert torch.autograd.gradcheck(loss, student)


def test_no_gradient_flows_into_the_reference():
    student, reference = torch.ones(2, 3, requires_grad=True), torch.ones(2, 3, requires_grad=True)
    boundary_loss([student], [reference], margin=2.0, layer_weights=[1.0]).backward()
    assert student.grad is not None
    assert reference.grad is None


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("padding", [1e6, NAN])
def test_padding_changes_neither_loss_nor_gradient_nor_agreement(reduction, padding):
    short, reference = random_matrix(2, 3, 4, seed=9), random_matrix(2, 3, 4, seed=10)
    filler = torch.full((2, 5, 4), padding, dtype=torch.float64)
    mask = torch.tensor([[True] * 3 + [False] * 5] * 2)
    arguments = {"margin": 0.5, "layer_weights": [2.0], "reduction": reduction}

    plain = short.clone().requires_grad_()
    padded = torch.cat([short, filler], dim=1).requires_grad_()
    padded_reference = torch.cat([reference, filler], dim=1)
    loss = boundary_loss([plain], [reference], **arguments)
    masked = boundary_loss([padded], [padded_reference], masks=[mask], **arguments)
    (gradient,) = torch.autograd.grad(loss, plain)
    (masked_gradient,) = torch.autograd.grad(masked, padded)

    torch.testing.assert_close(masked, loss)
    torch.testing.assert_close(masked_gradient[:, :3], gradient)
    assert (masked_gradient[:, 3:] == 0).all()
    torch.testing.assert_close(
        sign_agreement([padded], [padded_reference], masks=[mask]),
        sign_agreement([short], [reference]),
    )


def test_a_layer_without_a_mask_counts_whole_beside_one_with():
    student, reference = two_layers(11), two_layers(13)
    everything = torch.ones(3, 4, dtype=torch.bool)
    arguments = {"margin": 0.5, "layer_weights": [0.25, 1.0]}
    torch.testing.assert_close(
        boundary_loss(student, reference, masks=[everything, None], **arguments),
        boundary_loss(student, reference, **arguments),
    )


@settings(max_examples=30)
@given(margin=st.floats(0, 10), seed=st.integers(0, 10**6))
def test_the_loss_is_zero_exactly_where_every_neuron_clears_the_margin(margin, seed):
    reference = random_matrix(3, 4, seed=seed)
    tau = torch.where(reference > 0, 1.0, -1.0)
    clear = tau * (margin + random_matrix(3, 4, seed=seed + 1).abs())
    arguments = {"margin": margin, "layer_weights": [1.0]}
    assert boundary_loss([clear], [reference], **arguments) == 0
    assert boundary_loss([clear - 2 * tau * clear.abs()], [reference], **arguments) > 0


def test_half_precision_is_summed_in_float32():
    student = torch.full((4, 1000), -0.1, dtype=torch.bfloat16)
    loss = boundary_loss([student], [-student], margin=0.5, layer_weights=[1.0])
    assert loss.dtype is torch.float32
    torch.testing.assert_close(loss, (0.5 - student[0, 0].float()).square())


@pytest.mark.parametrize("value", [NAN, torch.inf, -torch.inf])
@pytest.mark.parametrize("side", [True, False])
def test_unchecked_it_is_not_finite_where_checked_it_is_refused(value, side):
    student, sides = torch.tensor([[1.0, value]]), torch.tensor([[True, side]])
    arguments = {"margin": 0.5, "layer_weights": [0.0]}
    assert not unchecked_boundary_loss([student], [sides], **arguments).isfinite()
    with pytest.raises(ValueError, match="layer 0: activations hold NaN or infinite"):
        boundary_loss([student], [sides], **arguments)


def test_a_loss_too_large_for_its_dtype_is_no_error_of_its_values():
    values = torch.full((1, 1), -1e30)
    assert boundary_loss([values], [values < 0], margin=0.5, layer_weights=[1.0]) == torch.inf


def test_agreement_averages_layers_not_elements():
    student = [torch.tensor([[1.0, 1.0, -1.0, -1.0]]), torch.tensor([[1.0]])]
    reference = [torch.tensor([[1.0, -1.0, 1.0, -2.0]]), torch.tensor([[3.0]])]
    torch.testing.assert_close(sign_agreement(student, reference), torch.tensor(0.75))


def test_zero_agrees_with_inactive():
    assert sign_agreement([torch.zeros(1, 2)], [torch.tensor([[-1.0, 0.0]])]) == 1


def test_layer_weights_grow_with_depth():
    assert boundary_layer_weights(4) == [1 / 16, 1 / 4, 9 / 16, 1.0]
    assert boundary_layer_weights(2, power=1) == [0.5, 1.0]
    assert boundary_layer_weights(3, power=0) == [1.0, 1.0, 1.0]


def test_layer_weights_need_a_layer():
    with pytest.raises(ValueError, match="n must be at least 1 layer, got 0"):
        boundary_layer_weights(0)


ONES = torch.ones(2, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"student": [], "reference": [], "layer_weights": []}, "student has no layers"),
        ({"reference": [ONES, ONES]}, "must have the same layers, got 1, 2 and 1"),
        ({"masks": []}, "must have the same layers, got 1, 1 and 0"),
        ({"reference": [torch.ones(3, 2)]}, r"layer 0: .* same shape, got \(2, 3\) and \(3, 2\)"),
        ({"masks": [ONES.bool()]}, r"layer 0: the mask must have shape \(2,\).* got \(2, 3\)"),
        ({"masks": [torch.zeros(2).bool()]}, "layer 0: no position counts"),
        ({"student": [torch.full((2, 3), NAN)]}, "layer 0: activations hold NaN or infinite"),
        ({"student": [torch.full((2, 3), torch.inf)]}, "layer 0: activations hold NaN or infinite"),
        ({"student": [torch.full((2, 3), -torch.inf)]}, "layer 0: activations hold NaN or infin"),
        ({"reference": [torch.full((2, 3), NAN)]}, "layer 0: activations hold NaN or infinite"),
        ({"margin": -0.5}, "margin must be finite and not negative, got -0.5"),
        ({"margin": NAN}, "margin must be finite and not negative, got nan"),
        ({"layer_weights": [1.0, 1.0]}, "one weight for each of 1 layers, got 2"),
        ({"layer_weights": [-1.0]}, r"layer_weights must be finite and not negative, got \[-1.0\]"),
        ({"reduction": "none"}, "reduction must be 'mean' or 'sum', got 'none'"),
    ],
)
def test_a_wrong_argument_is_refused(change, message):
    arguments = {
        "student": [ONES],
        "reference": [ONES],
        "margin": 0.5,
        "layer_weights": [1.0],
        **change,
    }
    with pytest.raises(ValueError, match=message):
        boundary_loss(arguments.pop("student"), arguments.pop("reference"), **arguments)


def test_a_mask_of_numbers_is_refused():
    with pytest.raises(TypeError, match=r"layer 0: the mask must be boolean, got torch.int64"):
        sign_agreement([ONES], [ONES], masks=[torch.ones(2, dtype=torch.int64)])
