"""A model that was lent comes back as it was, whatever happened to it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rankwise.core.modules import preserved_state


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
