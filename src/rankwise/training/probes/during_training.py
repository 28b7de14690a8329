"""What changes while a run trains: how far the weights move, and what they can follow next.

    relative_norm    ‖ΔW‖ / ‖W‖ over all adapted layers, at the first steps and after each epoch
    captured_share   share of the gradient of one fixed batch that the next steps can follow, at
                     the first steps; one minus it is ABM-LoRA's relative information loss
                     (arXiv 2511.19145, Fig. 1)
    batch_loss       mean loss of that batch in eval mode, at the first steps

Measuring changes nothing of the training, not even its random numbers.
"""

from __future__ import annotations

import math
import time
from contextlib import nullcontext

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from rankwise.capture.batches import to_device
from rankwise.capture.gradients import capture_gradients
from rankwise.core.errors import RankwiseError
from rankwise.core.modules import device_of, in_eval_mode
from rankwise.training.job import Job
from rankwise.training.probes.layers import (
    adapted_layers_of,
    norm_of,
    relative_norm_of_all,
    shares_of,
)
from rankwise.training.records import DiagnosticPoint

FIRST_STEPS = (0, 1, 2, 3, 5, 8, 13, 20)
GRADIENT_STEPS = (0, 1, 3, 8, 20)
MOST_WEIGHTS = 20_000_000
"""Weights of those adapted layers whose changes are no products, up to which a model is probed."""


class Diagnostics:
    """Measures a job's model after optimizer steps; a loop calls ``measure`` after each of them.

    Make it when the model is as it will train: the chain open, the adapter initialised.

    Attributes:
        points: What was measured so far.
        seconds: What measuring has cost.
    """

    def __init__(self, job: Job) -> None:
        self.points: list[DiagnosticPoint] = []
        self.seconds = 0.0
        self._job = job
        self._layers = adapted_layers_of(job.model)
        dense = [layer.shape for layer in self._layers.values() if not layer.is_factored]
        weights = sum(shape.numel() for shape in dense)
        training = job.settings.training
        self._is_active = training.diagnostics and bool(self._layers) and weights <= MOST_WEIGHTS
        rows = job.order(0)[: training.batch_size]
        self._batch = job.splits.train.take(rows) if self._is_active else {}

    def measure(self, step: int) -> DiagnosticPoint | None:
        """Measure, if this step is one of those to be measured."""
        is_due = step in FIRST_STEPS or step % self._job.steps_per_epoch == 0
        if not (self._is_active and is_due):
            return None
        begun = time.perf_counter()
        point = DiagnosticPoint(
            step=step,
            relative_norm=_if_finite(self._relative_norm()),
            captured_share=self._captured_share() if step in GRADIENT_STEPS else None,
            batch_loss=_if_finite(self._batch_loss()) if step in FIRST_STEPS else None,
        )
        self.points.append(point)
        self.seconds += time.perf_counter() - begun
        return point

    def _relative_norm(self) -> float:
        # Of factors nothing is computed by the model, whose mode takes longer to change than these.
        is_factored = all(layer.is_factored for layer in self._layers.values())
        with nullcontext() if is_factored else in_eval_mode(self._job.model):
            norms = {name: norm_of(layer.change()) for name, layer in self._layers.items()}
        return relative_norm_of_all(norms, self._layers)

    @torch.no_grad()
    def _batch_loss(self) -> float:
        model = self._job.model
        with in_eval_mode(model):
            return float(model(**to_device(self._batch, device_of(model)))["loss"])

    def _captured_share(self) -> float | None:
        shares = shares_of(self._layers)
        modules = {name: layer.module for name, layer in self._layers.items()}
        # A layer that drops inputs at random is no linear map.
        try:
            with in_eval_mode(self._job.model):
                capture_gradients(
                    self._job.model, modules, batches=[self._batch], consume=shares.add
                )
        except RankwiseError:  # no plain mean loss, or a layer without a gradient: nothing to say
            return None
        return shares.of_all()


class DiagnosticsCallback(TrainerCallback):
    """The same in a ``Trainer``; the points go to its log, which its checkpoints carry along."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._diagnostics: Diagnostics | None = None

    @property
    def seconds(self) -> float:
        """What measuring has cost in this process."""
        return 0.0 if self._diagnostics is None else self._diagnostics.seconds

    def points(self, state: TrainerState) -> list[DiagnosticPoint]:
        """Return what is in the log; a checkpoint of version 0.1 has its own words for it."""
        keys = ("relative_norm", "strength")
        return [
            DiagnosticPoint.model_validate(entry)
            for entry in state.log_history
            if any(key in entry for key in keys)
        ]

    def on_init_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: object,
    ) -> None:
        """Look at the weights, into which a resumed chain then folds what it has learned."""
        self._diagnostics = Diagnostics(self._job)

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: object,
    ) -> None:
        """Measure the start, unless the run is resumed."""
        if state.global_step == 0:
            self._measure(state)

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: object,
    ) -> None:
        """Measure after a step."""
        self._measure(state)

    def _measure(self, state: TrainerState) -> None:
        assert self._diagnostics is not None
        point = self._diagnostics.measure(state.global_step)
        if point is not None:
            state.log_history.append(point.model_dump())


def _if_finite(value: float) -> float | None:
    """Return a number that a record can hold: training that diverged is refused elsewhere."""
    return value if math.isfinite(value) else None
