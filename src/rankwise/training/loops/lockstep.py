"""Runs of one shape trained in lockstep: learning rates × seeds as a dimension of every tensor.

Each run goes the way of the lean loop: its own rows in its own order, its own optimizer, folds,
measurements and end. Only the steps and the validation of all are computed at once, by
``torch.func.vmap``, where a small model's step costs many times what its arithmetic does. Batched
products may round otherwise than single ones (MKL does for factors of rank 1), so a run ends within
rounding of the lean loop's and not always at the same bits; it does not depend on which others are
trained beside it, as there are always two at least.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from rankwise.core.errors import RankwiseError
from rankwise.core.modules import in_eval_mode
from rankwise.evaluation.scores import Evaluation, evaluate_all
from rankwise.methods.chain.chain import Chain
from rankwise.tasks.splits import TensorSplit
from rankwise.training.job import Job
from rankwise.training.loops.chains import build_chain, final_rank, fold
from rankwise.training.loops.optimization import AdamWOfRuns, build_optimizer, build_schedule
from rankwise.training.loops.results import (
    Trained,
    TrainedParameters,
    count_parameters,
    is_stalled,
    non_finite_loss,
)
from rankwise.training.loops.stack import ModelStack
from rankwise.training.probes.during_training import Diagnostics
from rankwise.training.records import CurvePoint

MOST_WEIGHTS = 200_000
"""Weights of a model up to which a step costs more than its arithmetic."""


def can_train_together(job: Job) -> bool:
    """Say whether a job is small enough, draws no random number and has rows of one length."""
    if not job.settings.is_stackable:
        return False
    drops = any(isinstance(part, nn.Dropout) and part.p > 0 for part in job.model.modules())
    weights = sum(parameter.numel() for parameter in job.model.parameters())
    rows = (job.splits.train, job.splits.validation)
    is_plain = all(isinstance(each, TensorSplit) for each in rows)
    return weights <= MOST_WEIGHTS and is_plain and not drops


def train_together(jobs: Sequence[Job]) -> list[Trained | RankwiseError]:
    """Train jobs that differ in learning rate and seed alone; of one that breaks down, its error.

    The seconds of a result's diagnostics are its own; those of the training are shared.
    """
    with contextlib.ExitStack() as open_chains:
        runs = [_Run.begin(job, open_chains) for job in jobs]
        if begun := [run for run in runs if run.error is None]:
            _Lockstep(begun).train()
    return [run.result() for run in runs]


@dataclass
class _Run:
    """One of the runs: what it has of its own."""

    job: Job
    chain: Chain | None = None
    groups: list[dict[str, Any]] = field(default_factory=list)
    diagnostics: Diagnostics | None = None
    parameters: TrainedParameters | None = None
    curve: list[CurvePoint] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    error: RankwiseError | None = None
    is_done: bool = False

    @classmethod
    def begin(cls, job: Job, open_chains: contextlib.ExitStack) -> _Run:
        """Open the run's chain, make its optimizer and measure its start."""
        run = cls(job)
        with run.errors_kept():
            run.chain = build_chain(job)
            if run.chain is not None:
                open_chains.enter_context(_opened(run.chain))
            run.groups = build_optimizer(job.model, job.settings).param_groups
            run.parameters = count_parameters(job.model)
            run.diagnostics = Diagnostics(job)
            run.diagnostics.measure(0)
        return run

    @property
    def trained(self) -> list[nn.Parameter]:
        """The parameters that train."""
        return [parameter for group in self.groups for parameter in group["params"]]

    @contextlib.contextmanager
    def errors_kept(self) -> Iterator[None]:
        """Keep an error as the end of this run, which is no business of the others."""
        try:
            yield
        except RankwiseError as error:
            self.error = error
            self.is_done = True

    def fold(self, optimizer: torch.optim.Optimizer, step: int) -> None:
        """Fold the block of the run's chain."""
        with self.errors_kept():
            assert self.chain is not None
            fold(self.chain, self.job, optimizer, step=step)

    def take_loss(self, loss: float) -> None:
        """Take the loss of a step; one that is not finite ends the run."""
        self.losses.append(loss)
        with self.errors_kept():
            if not math.isfinite(loss):
                raise non_finite_loss(loss)

    def measure(self, step: int) -> None:
        """Measure the run, if this step is one of those to be measured."""
        with self.errors_kept():
            assert self.diagnostics is not None
            self.diagnostics.measure(step)

    def add_point(self, step: int, found: Evaluation) -> None:
        """Take the validation after ``step`` steps; it may be the end of the run."""
        with self.errors_kept():
            if not math.isfinite(found.loss):
                raise non_finite_loss(found.loss, place=" on validation")
            mean = sum(self.losses) / len(self.losses) if self.losses else None
            self.curve.append(
                CurvePoint(
                    step=step,
                    train_loss=mean,
                    validation_loss=found.loss,
                    validation_score=found.score,
                )
            )
            self.losses = []
            patience = self.job.settings.training.patience
            self.is_done = is_stalled([each.validation_loss for each in self.curve], patience)

    def finish(self) -> None:
        """Leave one adapter in the place of the run's chain."""
        with self.errors_kept():
            if self.chain is not None:
                self.chain.finish(final_rank=final_rank(self.job))

    def result(self) -> Trained | RankwiseError:
        """Return what has become of the run."""
        if self.error is not None:
            return self.error
        assert self.diagnostics is not None
        assert self.parameters is not None
        return Trained(
            self.curve,
            self.parameters,
            best=self.curve[-1],
            diagnostics=self.diagnostics.points,
            diagnostics_seconds=self.diagnostics.seconds,
            folds=self.job.fold_steps,
        )


class _Lockstep:
    """Runs that have begun, on their way to the end."""

    def __init__(self, runs: Sequence[_Run]) -> None:
        self._runs = list(runs)
        for run in runs:
            run.job.model.train()
        self._job = runs[0].job  # of which every run has the same but learning rate and seed
        self._optimizer = AdamWOfRuns(_merged(runs))
        self._schedule = build_schedule(
            self._optimizer, self._job.settings.training, steps=self._job.steps
        )
        self._stack = ModelStack([run.job.model for run in runs])
        self._optimizer.gather()

    def train(self) -> None:
        """Train all to their ends."""
        self._validate(0)
        epochs, step = self._job.settings.training.epochs, 0
        for epoch in range(epochs):
            step = self._train_epoch(epoch, step)
            self._validate(step)
            self._leave(all_of_them=epoch == epochs - 1)
            if not self._runs:
                break

    def _train_epoch(self, epoch: int, step: int) -> int:
        """Train for an epoch, and return how many steps there were so far."""
        folds, size = self._job.fold_steps, self._job.settings.training.batch_size
        order = torch.stack([run.job.order(epoch) for run in self._runs])
        for index in order.split(size, dim=1):
            self._take_step(index)
            step += 1
            going = [run for run in self._runs if not run.is_done]
            if step in folds:
                for run in going:
                    run.fold(self._optimizer, step)
                self._stack_anew()
            for run in going:
                run.measure(step)
        return step

    def _take_step(self, index: Tensor) -> None:
        """Train each run on its own rows, int64 of shape (runs, rows)."""
        training = self._job.settings.training
        losses = self._stack.losses(self._job.splits.train.take(index))
        if (norm := training.max_grad_norm) is not None:
            for run in self._runs:
                nn.utils.clip_grad_norm_(run.trained, norm)
        self._optimizer.step()
        self._schedule.step()
        for run, loss in zip(self._runs, losses.tolist(), strict=True):
            if not run.is_done:
                run.take_loss(loss)

    @torch.no_grad()
    def _validate(self, step: int) -> None:
        rows, task = self._job.splits.validation, self._job.task
        model = self._runs[0].job.model
        with in_eval_mode(model):
            found = evaluate_all(self._stack.outputs, rows, task, model=model)
        for run, evaluation in zip(self._runs, found, strict=True):
            if not run.is_done:
                run.add_point(step, evaluation)

    def _leave(self, *, all_of_them: bool) -> None:
        """Bring the runs that are done to their end, and go on with the others."""
        leaving = [run for run in self._runs if run.is_done or all_of_them]
        for run in leaving:
            if run.error is None:
                run.finish()
            for parameter in run.trained:
                parameter.grad = None  # so the optimizer passes it over
        self._runs = [run for run in self._runs if not any(run is it for it in leaving)]
        if leaving and self._runs:
            self._stack_anew()

    def _stack_anew(self) -> None:
        models = [run.job.model for run in self._runs]
        self._stack = ModelStack(models, recordings=self._stack.recordings)
        self._optimizer.gather()


@contextlib.contextmanager
def _opened(chain: Chain) -> Iterator[None]:
    with chain:
        yield


def _merged(runs: Sequence[_Run]) -> list[dict[str, Any]]:
    """Return the groups of all runs' optimizers, those of one rate and decay as one."""
    merged: dict[tuple[float, float], dict[str, Any]] = {}
    for group in (group for run in runs for group in run.groups):
        key = (group["lr"], group["weight_decay"])
        held = merged.setdefault(key, {"params": [], "lr": key[0], "weight_decay": key[1]})
        held["params"] += group["params"]
    return list(merged.values())
