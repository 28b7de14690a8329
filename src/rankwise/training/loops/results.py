"""What the loops share: the learning curve, the count of what trains, the guard of the loss."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import nn

from rankwise.core.errors import TrainingError
from rankwise.training.records import CurvePoint, DiagnosticPoint, StepPoint

Tell = Callable[[CurvePoint], None]
"""Is told of each point of the learning curve as soon as it is known."""


class TrainedParameters(NamedTuple):
    """Numbers that train: in the adapter (or the whole model, without one), and in the head.

    They are apart because every method trains the same head beside its adapter.
    """

    adapter: int
    head: int


@dataclass(frozen=True)
class Trained:
    """What a loop returns.

    Attributes:
        curve: One point an epoch.
        parameters: What it trained.
        best: The point whose weights the model is left with.
        diagnostics: What was measured of the change meanwhile.
        diagnostics_seconds: What that took.
        earlier_seconds: What processes before this one took for it, diagnostics included.
        steps: What was logged of single steps.
        folds: The steps after which a chain was folded.
    """

    curve: list[CurvePoint]
    parameters: TrainedParameters
    best: CurvePoint
    diagnostics: list[DiagnosticPoint]
    diagnostics_seconds: float
    earlier_seconds: float = 0.0
    steps: list[StepPoint] = field(default_factory=list)
    folds: list[int] = field(default_factory=list)


def count_parameters(model: nn.Module) -> TrainedParameters:
    """Count what trains in ``model``; a head is what PEFT holds in its ``modules_to_save``."""
    sizes = {name: p.numel() for name, p in model.named_parameters() if p.requires_grad}
    head = sum(size for name, size in sizes.items() if ".modules_to_save." in name)
    return TrainedParameters(sum(sizes.values()) - head, head)


def is_stalled(losses: Sequence[float], patience: int | None) -> bool:
    """Say whether none of the last ``patience`` validation losses is lower than those before."""
    if patience is None or len(losses) <= patience:
        return False
    return min(losses[-patience:]) >= min(losses[:-patience])


def non_finite_loss(loss: float, *, place: str = "") -> TrainingError:
    """Return the error of a loss that is not finite."""
    return TrainingError(
        f"the loss{place} became {loss}: lower training.learning_rate, or set "
        "training.max_grad_norm"
    )


@contextlib.contextmanager
def finite_loss_required(model: nn.Module) -> Iterator[None]:
    """Stop at the first loss that is not finite, instead of training on it.

    Raises:
        TrainingError: The model returned a NaN or infinite loss while training.
    """

    def check(module: nn.Module, _inputs: Any, output: Any) -> None:
        loss = output.get("loss") if isinstance(output, dict) else None
        if module.training and loss is not None and not torch.isfinite(loss):
            raise non_finite_loss(loss.item())

    hook = model.register_forward_hook(check)
    try:
        yield
    finally:
        hook.remove()
