"""What a classifier is worth on a split: its loss, its accuracy, and which rows it gets right."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from rankwise.core.modules import device_of
from rankwise.tasks.splits import TensorSplit


@dataclass(frozen=True)
class Evaluation:
    """The result on one split; ``correct`` has one entry a row, in the order of the split."""

    loss: float
    score: float
    correct: list[bool]


@torch.no_grad()
def evaluate(model: nn.Module, split: TensorSplit, *, batch_size: int = 1024) -> Evaluation:
    """Score ``model`` on ``split`` in eval mode; the model's mode is restored.

    ``score`` is the accuracy, the share of rows whose largest logit is at the label. ``loss`` is
    the mean over rows, whatever the batch size.
    """
    training = model.training
    model.eval()
    try:
        total, correct = 0.0, []
        device = device_of(model)
        for rows in split.batches(batch_size):
            batch = {name: column.to(device) for name, column in rows.items()}
            output = model(**batch)
            total += float(output["loss"]) * len(batch["labels"])
            correct += (output["logits"].argmax(dim=-1) == batch["labels"]).tolist()
    finally:
        model.train(training)
    return Evaluation(total / len(split), sum(correct) / len(split), correct)
