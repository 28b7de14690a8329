"""What changes while a run trains: the strength of the change, and what it can follow next.

    strength    ‖ΔW‖ / ‖W‖ over all adapted layers, at the first steps and after each epoch
    followed    share of the gradient of one fixed batch that the next moves can follow, at the
                first steps; one minus it is ABM-LoRA's relative information loss (arXiv 2511.19145,
                Fig. 1)
    batch_loss  mean loss of that batch in eval mode, at the first steps

Observing changes nothing of the training, not even its random numbers.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from rankwise.capture.batches import to_device
from rankwise.capture.gradients import capture_gradients
from rankwise.core.errors import RankwiseError
from rankwise.core.modules import device_of
from rankwise.training.job import Job
from rankwise.training.probes.layers import share_in_all, strength_in_all, watched_layers

FIRST_STEPS = (0, 1, 2, 3, 5, 8, 13, 20)
FOLLOWED_STEPS = (0, 1, 3, 8, 20)
MOST_NUMBERS = 20_000_000
"""Weights of the watched layers up to which a model is observed: ΔW and gradients are dense."""


@dataclass(frozen=True)
class DiagnosticPoint:
    """What was seen after ``step`` optimizer steps; None is what was not asked for there."""

    step: int
    strength: float
    followed: float | None
    batch_loss: float | None


@dataclass(frozen=True)
class Diagnosis:
    """What was seen while a run trained, and the seconds that looking has cost."""

    points: list[DiagnosticPoint] = field(default_factory=list)
    seconds: float = 0.0


class Diagnoser:
    """Looks at a job's model after optimizer steps; a loop calls ``observe`` after each of them.

    Make it when the model is as it will train: the chain open, the adapter initialised.

    """

    def __init__(self, job: Job) -> None:
        self._points: list[DiagnosticPoint] = []
        self._seconds = 0.0
        self._job = job
        self._layers = watched_layers(job.model)
        numbers = sum(layer.shape.numel() for layer in self._layers.values())
        self._is_watching = 0 < numbers <= MOST_NUMBERS
        rows = job.order(0)[: job.settings.training.batch_size]
        self._batch = job.splits.train.take(rows) if self._is_watching else {}

    def observe(self, step: int) -> DiagnosticPoint | None:
        """Look, if this step is one of those to look at."""
        if not self._is_watching:
            return None
        if step not in FIRST_STEPS and step % self._job.steps_per_epoch:
            return None
        begun = time.perf_counter()
        point = DiagnosticPoint(
            step, self._strength(), self._followed(step), self._batch_loss(step)
        )
        self._points.append(point)
        self._seconds += time.perf_counter() - begun
        return point

    def diagnosis(self) -> Diagnosis:
        """Return what was seen so far."""
        return Diagnosis(list(self._points), self._seconds)

    def _strength(self) -> float:
        with _evaluating(self._job.model):
            norms = {name: float(layer.change().norm()) for name, layer in self._layers.items()}
        return strength_in_all(norms, self._layers)

    @torch.no_grad()
    def _batch_loss(self, step: int) -> float | None:
        if step not in FIRST_STEPS:
            return None
        model = self._job.model
        with _evaluating(model):
            return float(model(**to_device(self._batch, device_of(model)))["loss"])

    def _followed(self, step: int) -> float | None:
        if step not in FOLLOWED_STEPS:
            return None
        gradients: dict[str, Tensor] = {}
        modules = {name: layer.module for name, layer in self._layers.items()}
        try:
            capture_gradients(
                self._job.model, modules, batches=[self._batch], consume=gradients.__setitem__
            )
        except RankwiseError:  # no plain mean loss, or a layer without a gradient: nothing to say
            return None
        with _evaluating(self._job.model):
            shares = {name: self._layers[name].followed(G) for name, G in gradients.items()}
        return share_in_all(shares, gradients)


class DiagnoserCallback(TrainerCallback):
    """The same in a ``Trainer``; the points go to its log, which its checkpoints carry along."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._diagnoser: Diagnoser | None = None

    def diagnosis(self, state: TrainerState) -> Diagnosis:
        """Return what is in the log, and the seconds of this process."""
        points = [
            DiagnosticPoint(
                int(entry["step"]), entry["strength"], entry["followed"], entry.get("batch_loss")
            )
            for entry in state.log_history
            if "strength" in entry
        ]
        diagnoser = self._diagnoser
        return Diagnosis(points, 0.0 if diagnoser is None else diagnoser.diagnosis().seconds)

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: object,
    ) -> None:
        """Look at the start, unless the run is resumed."""
        self._diagnoser = Diagnoser(self._job)
        if state.global_step == 0:
            self._look(state)

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: object,
    ) -> None:
        """Look after a step."""
        self._look(state)

    def _look(self, state: TrainerState) -> None:
        assert self._diagnoser is not None
        point = self._diagnoser.observe(state.global_step)
        if point is not None:
            entry: dict[str, Any] = asdict(point)
            state.log_history.append(entry)


@contextlib.contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Switch dropout off: a layer that drops inputs at random is no linear map."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)
