"""What a model is worth on a split: its loss, its scores, and what it answered row by row."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from rankwise.capture.batches import to_device
from rankwise.capture.losses import count_terms
from rankwise.core.modules import device_of
from rankwise.evaluation.metrics import METRICS
from rankwise.tasks.answers import Value
from rankwise.tasks.splits import Rows
from rankwise.tasks.table import Task


@dataclass(frozen=True)
class Evaluation:
    """The result on one split.

    Attributes:
        loss: Mean over the labels that count, whatever the batches were.
        scores: Each metric of the task, the headline first.
        predictions: One a row, in the order of the split; None where the output was no answer.
        labels: What is right, in the same order.
    """

    loss: float
    scores: dict[str, float]
    predictions: list[Value | None]
    labels: list[Value]

    @property
    def score(self) -> float:
        """The headline."""
        return next(iter(self.scores.values()))

    @property
    def invalid(self) -> int:
        """The number of rows whose output was no answer; they count as wrong."""
        return sum(prediction is None for prediction in self.predictions)


@torch.no_grad()
def evaluate(model: nn.Module, rows: Rows, task: Task) -> Evaluation:
    """Score ``model`` on ``rows`` in eval mode, as ``task`` reads it; the model's mode is restored.

    Rows of like lengths share a batch; the result is in the order of ``rows``.
    """
    training, device = model.training, device_of(model)
    total, terms = 0.0, 0
    answers: dict[int, tuple[Value | None, Value]] = {}
    model.eval()
    try:
        for index in _by_length(rows).split(task.evaluation_batch_size):
            batch = to_device(rows.take(index), device)
            output = model(**batch)
            counted = count_terms(output, batch["labels"])
            total, terms = total + float(output["loss"]) * counted, terms + counted
            answers |= zip(index.tolist(), zip(*task.answers(model, output, batch)))
    finally:
        model.train(training)
    predictions, labels = (list(each) for each in zip(*(answers[i] for i in range(len(rows)))))
    scores = {name: METRICS[name].compute(predictions, labels) for name in task.metrics}
    return Evaluation(total / terms, scores, predictions, labels)


def _by_length(rows: Rows) -> torch.Tensor:
    if rows.lengths is None:
        return torch.arange(len(rows))
    return torch.tensor(rows.lengths).argsort(stable=True)
