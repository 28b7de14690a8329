"""Scores by hand, whatever the batch size, and the model's mode afterwards."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rankwise.evaluation.classification import evaluate
from rankwise.tasks.splits import TensorSplit


class Fixed(nn.Module):
    """Returns its features as logits, and complains when it is scored in train mode."""

    def __init__(self):
        super().__init__()
        self.place = nn.Parameter(torch.zeros(()))

    def forward(self, features, labels):
        assert not self.training
        return {"logits": features, "loss": nn.functional.cross_entropy(features, labels)}


SPLIT = TensorSplit(
    {
        "features": torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]]),
        "labels": torch.tensor([0, 0, 0]),
    }
)


def test_the_score_is_the_share_of_rows_that_are_right():
    result = evaluate(Fixed(), SPLIT)
    assert result.correct == [True, False, True]
    assert result.score == pytest.approx(2 / 3)


def test_the_loss_is_a_mean_over_rows_for_uneven_batches_too():
    assert evaluate(Fixed(), SPLIT, batch_size=2).loss == pytest.approx(
        evaluate(Fixed(), SPLIT).loss
    )


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_of_the_model_is_restored(training):
    model = Fixed().train(training)
    evaluate(model, SPLIT)
    assert model.training is training
