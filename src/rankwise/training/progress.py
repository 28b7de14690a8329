"""What both loops share: the points of the learning curve, and the guard against a broken loss."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from rankwise.core.errors import TrainingError


@dataclass(frozen=True)
class CurvePoint:
    """The state after ``step`` optimizer steps; 0 is the initialised model, untrained."""

    step: int
    train_loss: float | None
    validation_loss: float
    validation_score: float


@dataclass(frozen=True)
class Trained:
    """What a loop returns: the learning curve, one point an epoch, and what it trained."""

    curve: list[CurvePoint]
    trainable_parameters: int


def is_stalled(losses: Sequence[float], patience: int | None) -> bool:
    """Say whether none of the last ``patience`` validation losses is lower than those before."""
    if patience is None or len(losses) <= patience:
        return False
    return min(losses[-patience:]) >= min(losses[:-patience])


@contextlib.contextmanager
def finite_loss_required(model: nn.Module) -> Iterator[None]:
    """Stop at the first loss that is not finite, instead of training on it.

    Raises:
        TrainingError: The model returned a NaN or infinite loss while training.
    """

    def check(module: nn.Module, _inputs: Any, output: Any) -> None:
        loss = output.get("loss") if isinstance(output, dict) else None
        if module.training and loss is not None and not torch.isfinite(loss):
            raise TrainingError(
                f"the loss became {loss.item()}: lower training.learning_rate, "
                "or set training.max_grad_norm"
            )

    hook = model.register_forward_hook(check)
    try:
        yield
    finally:
        hook.remove()
