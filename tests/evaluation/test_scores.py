"""Scores by hand, whatever the batches, in the order of the rows; and the model's mode after."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from rankwise.evaluation.scores import evaluate, mean_loss
from rankwise.tasks.answers import Answers
from rankwise.tasks.digits import DigitsTask
from rankwise.tasks.splits import TensorSplit


class Fixed(nn.Module):
    """Returns its features as logits, and complains when it is scored in train mode."""

    def __init__(self):
        super().__init__()
        self.place = nn.Parameter(torch.zeros(()))

    def forward(self, features, labels):
        assert not self.training
        return {"logits": features, "loss": nn.functional.cross_entropy(features, labels)}


class InPairs(DigitsTask):
    """The same task, scored two rows at a time."""

    evaluation_batch_size = 2


class Silent(DigitsTask):
    """A task whose model never answers."""

    def answers(self, model, output, batch):
        return Answers([None] * len(batch["labels"]), batch["labels"].tolist())


class Linear(nn.Module):
    """One layer, adapted and trained, that knows whether it is merged."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(2, 2)

    def forward(self, features, labels):
        logits = self.layer(features)
        return {"logits": logits, "loss": nn.functional.cross_entropy(logits, labels)}


def adapted():
    model = get_peft_model(Linear(), LoraConfig(r=1, target_modules=["layer"]))
    nn.init.normal_(model.base_model.model.layer.lora_B["default"].weight)
    return model


class Writing(DigitsTask):
    """A task whose model writes, two rows at a time; it takes down what it is asked with."""

    evaluation_batch_size, writing_batch_size, writes = 1, 2, True

    def answers(self, model, output, batch):
        layer = model.base_model.model.layer
        asked.append((layer.disable_adapters, len(batch["labels"]), output))
        logits = model(**batch)["logits"]
        return Answers(logits.argmax(dim=-1).tolist(), batch["labels"].tolist())


asked = []
SPLIT = TensorSplit(
    {
        "features": torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]]),
        "labels": torch.tensor([0, 0, 0]),
    }
)


def test_the_score_is_the_share_of_rows_that_are_right():
    result = evaluate(Fixed(), SPLIT, DigitsTask())
    assert (result.predictions, result.labels) == ([0, 1, 0], [0, 0, 0])
    assert result.scores == {"accuracy": pytest.approx(2 / 3)}
    assert result.score == result.scores["accuracy"]


def test_the_loss_is_a_mean_over_rows_for_uneven_batches_too():
    expected = nn.functional.cross_entropy(SPLIT.columns["features"], SPLIT.columns["labels"])
    assert evaluate(Fixed(), SPLIT, InPairs()).loss == pytest.approx(float(expected))


def test_rows_of_like_lengths_share_a_batch_and_answers_keep_the_order():
    rows = TensorSplit(SPLIT.columns)
    rows.lengths = [9, 1, 5]
    assert evaluate(Fixed(), rows, InPairs()).predictions == [0, 1, 0]


def test_an_output_that_is_no_answer_is_wrong_and_counted():
    result = evaluate(Fixed(), SPLIT, Silent())
    assert (result.score, result.invalid) == (0.0, 3)


def test_adapters_are_merged_while_a_model_writes_and_for_nothing_else():
    model, rows = adapted(), TensorSplit(SPLIT.columns)
    rows.lengths = [9, 1, 5]
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    asked.clear()
    written = evaluate(model, rows, Writing())
    assert asked == [(True, 2, {}), (True, 1, {})]
    read = evaluate(model, rows, InPairs())
    assert written.predictions == read.predictions
    assert written.scores == read.scores
    assert written.loss == mean_loss(model, rows, Writing())
    assert all(torch.equal(each, before[name]) for name, each in model.state_dict().items())


@pytest.mark.parametrize("bf16", [False, True])
def test_products_are_of_bfloat16_where_asked_for_and_answers_are_read_in_float32(bf16):
    made, read = [], []

    class Reading(InPairs):
        def answers(self, model, output, batch):
            read.append(output["logits"].dtype)
            return super().answers(model, output, batch)

    model = Linear()
    model.layer.register_forward_hook(lambda _, __, output: made.append(output.dtype))
    evaluate(model, TensorSplit(SPLIT.columns), Reading(), bf16=bf16)
    assert set(made) == {torch.bfloat16 if bf16 else torch.float32}
    assert set(read) == {torch.float32}


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_of_the_model_is_restored(training):
    model = Fixed().train(training)
    evaluate(model, SPLIT, DigitsTask())
    assert model.training is training
