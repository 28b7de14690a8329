"""A model that was lent comes back as it was, whatever happened to it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rankwise.core.modules import device_of, gradients_on, in_eval_mode, preserved_state, replaced


def _use_and_break(model: nn.Module) -> None:
    with preserved_state(model):
        model.train()
        model.requires_grad_(True)
        model(torch.randn(3, 2)).sum().backward()
        raise RuntimeError("inside")


def test_everything_is_as_before_after_an_exception():
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))
    model[1].eval()
    model[0].bias.requires_grad_(False)
    model[0].weight.grad = torch.ones(2, 2)
    random_state = torch.get_rng_state()

    with pytest.raises(RuntimeError, match="inside"):
        _use_and_break(model)

    assert [module.training for module in model.modules()] == [True, True, False]
    assert not model[0].bias.requires_grad
    assert torch.equal(model[0].weight.grad, torch.ones(2, 2))
    assert model[0].bias.grad is None
    assert torch.equal(torch.get_rng_state(), random_state)


def test_each_module_has_its_own_mode_again_after_eval_mode():
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))
    model[1].eval()
    with in_eval_mode(model):
        assert not any(module.training for module in model.modules())
    assert [module.training for module in model.modules()] == [True, True, False]


def test_what_modules_hold_is_put_back_and_what_has_come_is_taken_out():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    first, weight, held = model[0], model[0].weight, dict(vars(model[0]))
    with preserved_state(model):
        model[0] = nn.Identity()
        model.new = nn.Linear(1, 1)
        first.weight = nn.Parameter(torch.ones(2, 2))
        first.forward = lambda x: x
        first.register_forward_hook(lambda *_: None)
        model[1].running_mean = torch.ones(2)
        model[1].running_var.fill_(7)
        model[1].num_batches_tracked += 3
    assert list(model.children()) == [first, model[1]]
    assert first.weight is weight
    assert vars(first) == held
    assert not first._forward_hooks
    assert model[1].running_mean.tolist() == [0, 0]
    assert model[1].running_var.tolist() == [1, 1]
    assert model[1].num_batches_tracked == 0


def test_buffers_come_back_in_their_old_shape():
    model = nn.BatchNorm1d(2)
    with preserved_state(model):
        model.running_mean.resize_(5).fill_(1)
    assert model.running_mean.tolist() == [0, 0]


def test_copies_take_the_place_of_parameters_for_a_moment():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[1].weight = model[0].weight  # tied
    weight, before = model[0].weight, model[0].weight.detach().clone()
    with replaced(model, [weight]) as (copy,):
        assert model[0].weight is model[1].weight is copy
        copy.data.fill_(1)
    assert model[0].weight is model[1].weight is weight
    assert torch.equal(weight, before)


def test_gradients_are_recorded_below_inference_mode():
    model = nn.Linear(2, 2)
    with torch.inference_mode(), gradients_on():
        assert model(torch.ones(1, 2)).requires_grad
    with torch.no_grad(), gradients_on():
        assert model(torch.ones(1, 2)).requires_grad


def test_the_device_of_a_model_is_not_that_of_weights_without_memory():
    model = nn.Sequential(nn.Linear(2, 2, device="meta"), nn.Linear(2, 2))
    assert device_of(model) == torch.device("cpu")
    assert device_of(model[0]) == torch.device("meta")
