"""Plain networks of two or three layers, with either layout of a linear weight."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from tests.models.architectures import same_each_time


class Network(nn.Module):
    """12 → 10 → 8 → 5: two layers to adapt, stored either way, and a head to leave alone."""

    def __init__(self, layout: str = "Linear", dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            if layout == "Linear":
                self.first, self.second = nn.Linear(12, 10), nn.Linear(10, 8)
            else:
                self.first, self.second = Conv1D(10, 12), Conv1D(8, 10)
                for layer in (self.first, self.second):
                    nn.init.normal_(layer.weight, std=0.3)
            self.head = nn.Linear(8, 5)
        self.to(dtype)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.second(torch.tanh(self.first(x)))))


class MixedNetwork(nn.Module):
    """7 → 6 (``Linear``) → 5 (``Conv1D``, stored transposed); with ``labels``, also their loss."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(7, 6)
        self.second = Conv1D(5, 6)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        output = {"logits": self.second(torch.tanh(self.first(x)))}
        if labels is not None:
            output["loss"] = nn.functional.cross_entropy(output["logits"].float(), labels)
        return output


class Classifier(nn.Module):
    """4 → 8 → 8 → 3 with two activations; with ``labels``, also their mean loss."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.first = nn.Linear(4, 8)
        self.second = nn.Linear(8, 8)
        self.head = nn.Linear(8, 3)
        self.dropout = nn.Dropout(dropout)
        self.relu, self.gelu = nn.ReLU(), nn.GELU()

    def forward(self, x: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        hidden = self.dropout(self.relu(self.first(x)))
        logits = self.head(self.dropout(self.gelu(self.second(hidden))))
        if labels is None:
            return {"logits": logits}
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


def classifier(dropout: float = 0.0, dtype: torch.dtype = torch.float64) -> Classifier:
    """The classifier, the same weights at each call."""
    return same_each_time(Classifier, dropout).to(dtype)


class Perceptron(nn.Module):
    """4 → 6 → 3 and the mean loss of ``labels``."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.hidden = nn.Linear(4, 6)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        logits = self.head(self.dropout(torch.tanh(self.hidden(x))))
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}
