"""When training stalls, and when its loss is no number any more."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rankwise.core.errors import TrainingError
from rankwise.training.loops.results import finite_loss_required, is_stalled


@pytest.mark.parametrize(
    ("losses", "patience", "stalled"),
    [
        ([3.0, 2.0, 2.0], None, False),
        ([3.0, 2.0], 2, False),
        ([2.0, 3.0, 3.0], 2, True),
        ([2.0, 3.0, 1.9], 2, False),
        ([3.0, 2.0, 2.1, 2.0], 2, True),
    ],
)
def test_training_stalls_when_patience_brought_nothing_lower(losses, patience, stalled):
    assert is_stalled(losses, patience) is stalled


class Loss(nn.Module):
    def forward(self, value):
        return {"loss": value}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_is_refused_while_training_only(value):
    model = Loss()
    with finite_loss_required(model):
        model.eval()(torch.tensor(value))
        with pytest.raises(TrainingError, match=f"the loss became {value}"):
            model.train()(torch.tensor(value))
    assert not model._forward_hooks
