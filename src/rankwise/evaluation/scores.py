"""What a model is worth on a split: its loss, its scores, and what it answered row by row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from accelerate.utils import convert_to_fp32
from torch import Tensor, nn

from rankwise.capture.batches import to_device
from rankwise.capture.losses import count_terms
from rankwise.core.modules import device_of, in_eval_mode
from rankwise.evaluation.own_metrics import find_metric
from rankwise.methods.temporary_merge import temporarily_merged
from rankwise.tasks.answers import Answer, Answers
from rankwise.tasks.splits import Batch, Rows
from rankwise.tasks.table import Task, WritingTask


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
    predictions: list[Answer | None]
    labels: list[Answer]

    @property
    def score(self) -> float:
        """The headline."""
        return next(iter(self.scores.values()))

    @property
    def invalid(self) -> int:
        """The number of rows whose output was no answer; they count as wrong."""
        return sum(prediction is None for prediction in self.predictions)


@torch.no_grad()
def evaluate(model: nn.Module, rows: Rows, task: Task, *, bf16: bool = False) -> Evaluation:
    """Score ``model`` on ``rows`` in eval mode, as ``task`` reads it; the model's mode is restored.

    Rows of like lengths share a batch; the result is in the order of ``rows``. Where answers are
    written, adapters are merged meanwhile, if they can be; the loss is that of the model as it is.

    Args:
        model: On the device where it computes.
        rows: What to score it on.
        task: Reads what it answers.
        bf16: Whether it computes under autocast, as in training with ``bf16``; it writes in its
            weights' dtype in any case.
    """
    with in_eval_mode(model):
        if isinstance(task, WritingTask) and task.writes:
            return _evaluate_writing(model, rows, task, bf16=bf16)
        return evaluate_all(
            lambda batch: [_output(model, batch, bf16=bf16)], rows, task, model=model
        )[0]


@torch.no_grad()
def evaluate_all(
    outputs: Callable[[Batch], Sequence[Any]], rows: Rows, task: Task, *, model: nn.Module
) -> list[Evaluation]:
    """Score several models of one kind at once: ``outputs`` returns what each makes of a batch.

    They are in eval mode, and ``model`` is one of them.
    """
    found: list[tuple[_MeanLoss, _Answered]] = []
    for index, batch in _batches(model, rows, task.evaluation_batch_size):
        each = outputs(batch)
        found = found or [(_MeanLoss(), _Answered(task)) for _ in each]
        for (loss, answered), output in zip(found, each, strict=True):
            loss.add(output, batch)
            answered.add(index, task.answers(model, output, batch))
    return [answered.evaluation(loss.value) for loss, answered in found]


def _output(model: nn.Module, batch: Batch, *, bf16: bool) -> Any:
    if not bf16:
        return model(**batch)
    with torch.autocast(device_of(model).type, torch.bfloat16):
        output = model(**batch)
    return convert_to_fp32(output)  # as Accelerate hands it on in training


def _evaluate_writing(model: nn.Module, rows: Rows, task: Any, *, bf16: bool) -> Evaluation:
    loss, answered = mean_loss(model, rows, task, bf16=bf16), _Answered(task)
    with temporarily_merged(model):
        for index, batch in _batches(model, rows, task.writing_batch_size):
            answered.add(index, task.answers(model, {}, batch))
    return answered.evaluation(loss)


class _Answered:
    """What a model answered so far."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._answers: dict[int, tuple[Answer | None, Answer]] = {}

    def add(self, index: Tensor, answers: Answers) -> None:
        self._answers |= zip(index.tolist(), zip(*answers))

    def evaluation(self, loss: float) -> Evaluation:
        rows = range(len(self._answers))
        predictions, labels = (list(each) for each in zip(*(self._answers[i] for i in rows)))
        scores = {
            name: find_metric(name).compute(predictions, labels) for name in self._task.metrics
        }
        return Evaluation(loss, scores, predictions, labels)


class _MeanLoss:
    """The mean over the labels that count so far, whatever the batches are."""

    def __init__(self) -> None:
        self._total, self._terms = 0.0, 0

    def add(self, output: Any, batch: Batch) -> None:
        counted = count_terms(output, batch["labels"])
        self._total += float(output["loss"]) * counted
        self._terms += counted

    @property
    def value(self) -> float:
        return self._total / self._terms


@torch.no_grad()
def mean_loss(model: nn.Module, rows: Rows, task: Task, *, bf16: bool = False) -> float:
    """Return the loss of :func:`evaluate` alone, which asks for no answers."""
    loss = _MeanLoss()
    with in_eval_mode(model):
        for _, batch in _batches(model, rows, task.evaluation_batch_size):
            loss.add(_output(model, batch, bf16=bf16), batch)
    return loss.value


def _batches(model: nn.Module, rows: Rows, size: int) -> Iterator[tuple[Tensor, Batch]]:
    """Yield the numbers of the rows of each batch, and the batch where the model is."""
    device = device_of(model)
    for index in _by_length(rows).split(size):
        batch = to_device(rows.take(index), device)
        yield index, batch


def _by_length(rows: Rows) -> Tensor:
    if rows.lengths is None:
        return torch.arange(len(rows))
    return torch.tensor(rows.lengths).argsort(stable=True)
