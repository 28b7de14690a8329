"""What a model is worth on a split: its loss, its scores, and what it answered row by row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rankwise.capture.batches import to_device
from rankwise.capture.losses import count_terms
from rankwise.core.modules import device_of, in_eval_mode
from rankwise.evaluation.metrics import METRICS
from rankwise.tasks.answers import Value
from rankwise.tasks.splits import Batch, Rows
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
    total, terms = 0.0, 0
    answers: dict[int, tuple[Value | None, Value]] = {}
    with in_eval_mode(model):
        for index, batch, output in _outputs(model, rows, task):
            counted = count_terms(output, batch["labels"])
            total, terms = total + float(output["loss"]) * counted, terms + counted
            answers |= zip(index.tolist(), zip(*task.answers(model, output, batch)))
    predictions, labels = (list(each) for each in zip(*(answers[i] for i in range(len(rows)))))
    scores = {name: METRICS[name].compute(predictions, labels) for name in task.metrics}
    return Evaluation(total / terms, scores, predictions, labels)


@torch.no_grad()
def mean_loss(model: nn.Module, rows: Rows, task: Task) -> float:
    """Return the loss of :func:`evaluate` alone, which asks for no answers."""
    total, terms = 0.0, 0
    with in_eval_mode(model):
        for _, batch, output in _outputs(model, rows, task):
            counted = count_terms(output, batch["labels"])
            total, terms = total + float(output["loss"]) * counted, terms + counted
    return total / terms


def _outputs(model: nn.Module, rows: Rows, task: Task) -> Iterator[tuple[Tensor, Batch, Any]]:
    """Yield the rows of each batch, the batch, and what the model makes of it."""
    device = device_of(model)
    for index in _by_length(rows).split(task.evaluation_batch_size):
        batch = to_device(rows.take(index), device)
        yield index, batch, model(**batch)


def _by_length(rows: Rows) -> Tensor:
    if rows.lengths is None:
        return torch.arange(len(rows))
    return torch.tensor(rows.lengths).argsort(stable=True)
