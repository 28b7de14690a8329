"""A small network on pixels, pretrained on one half of the digits and adapted to the other.

This is RAC-LoRA's experiment (Malinovsky et al. 2024, arXiv 2410.08305, Section 6): two hidden
layers with ReLU, the base trained on 0-4 and adapted to 5-9.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from rankwise.core.modules import device_of, in_eval_mode
from rankwise.tasks.answers import Answers, largest_logit
from rankwise.tasks.kept_weights import keep_weights, take_weights
from rankwise.tasks.retention import Reading, Retention
from rankwise.tasks.splits import Batch, Rehearsal, Rows, Splits, TensorSplit
from rankwise.tasks.table import PIXEL_FACTS

HALF = 5


class PixelTask(ABC):
    """What the two tasks on digits have in common."""

    # Rows of the half that is adapted to, known beforehand.
    training_rows: ClassVar[int]

    version, metrics = PIXEL_FACTS
    evaluation_batch_size = 1024
    is_retention_cheap = True

    @property
    def head_modules(self) -> tuple[str, ...]:
        """None: the base comes with its last layer, pretrained like the rest."""
        return ()

    @abstractmethod
    def build(self) -> PixelClassifier:
        """Return the network, untrained."""

    @abstractmethod
    def base_splits(self) -> Splits:
        """Return the rows of the digits 0-4, the half that the base is made of."""

    def remember(self, base: nn.Module) -> Reading:
        """Take down the accuracy on 0-4, test rows; it is read through the base's own last layer.

        That layer answers with other digits after training, so it is no part of what is lost.
        """
        network: Any = base
        head, rows = network.layers[-1], self.base_splits().test.take(slice(None))
        before = _accuracy(network, head, rows)

        def read(trained: nn.Module) -> Retention:
            after = _accuracy(trained, head, rows)
            measure = "accuracy on the digits 0-4 before training minus after, by the base's head"
            return Retention(measure, before, after, before - after)

        return read

    def rehearse(self) -> Rehearsal:
        """Return the network without weights, and a blank image."""
        with torch.device("meta"):
            model = self.build()
        blank = {
            "features": torch.zeros(1, model.pixels),
            "labels": torch.zeros(1, dtype=torch.int64),
        }
        return Rehearsal.of(model, TensorSplit(blank), self.training_rows)

    def answers(self, model: nn.Module, output: Mapping[str, Any], batch: Batch) -> Answers:
        """Read the digit of the largest logit."""
        return largest_logit(output, batch)


class PixelClassifier(nn.Module):
    """The network pixels-hidden-hidden-5; with ``labels`` it also returns the mean loss."""

    def __init__(self, *, pixels: int, hidden: int = 64, dropout: float = 0.0) -> None:
        super().__init__()
        self.pixels = pixels
        rest = [nn.Dropout(dropout)] if dropout else []
        self.layers = nn.Sequential(
            nn.Linear(pixels, hidden),
            nn.ReLU(),
            *rest,
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            *rest,
            nn.Linear(hidden, HALF),
        )

    def forward(self, features: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        logits = self.layers(features)
        if labels is None:
            return {"logits": logits}
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


def of_half(features: Tensor, digits: Tensor, *, second: bool) -> TensorSplit:
    """Return the rows of the digits 0-4, or of 5-9 with 5 taken off each label."""
    keep = (digits >= HALF) == second
    return TensorSplit({"features": features[keep], "labels": digits[keep] - HALF * second})


def pretrained(
    file: Path,
    build: Callable[[], PixelClassifier],
    train: Callable[[PixelClassifier], None],
    *,
    seed: int,
) -> PixelClassifier:
    """Return the network in ``file``; if there is none, build it, train it and write it there.

    ``seed`` decides its start and the order of its rows; the global random state stays.

    Raises:
        ModelError: The file is damaged.
    """
    if not file.exists():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = build()
            train(model)
        keep_weights(model.state_dict(), file)
    with torch.device("meta"):
        model = build()
    take_weights(model, file, assign=True)
    return model


def pretrain(
    model: nn.Module, rows: Rows, *, epochs: int, learning_rate: float, batch_size: int
) -> None:
    """Train every weight on ``rows`` with AdamW, in an order of the global generator."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate)
    for _ in range(epochs):
        for index in torch.randperm(len(rows)).split(batch_size):
            model(**rows.take(index))["loss"].backward()
            optimizer.step()
            optimizer.zero_grad()


@torch.no_grad()
def _accuracy(model: Any, head: nn.Module, rows: Batch) -> float:
    """Return the share of rows that are right by what lies below the last layer, and ``head``."""
    device = device_of(model)
    features, labels = (rows[name].to(device) for name in ("features", "labels"))
    with in_eval_mode(model):
        hidden = model.layers[:-1](features)
    return float((head.to(device)(hidden).argmax(dim=1) == labels).double().mean())
