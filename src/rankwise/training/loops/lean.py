"""A plain training loop for tiny models, where a ``Trainer`` costs more than the model itself.

Equal to ``Trainer`` with ``ChainCallback``: the same rows in the same order, the same optimizer and
schedule, the same folds. ``tests/training/loops/test_lean.py`` holds the two against each other.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext

import torch

from rankwise.methods.chain.chain import Chain
from rankwise.training.job import Job
from rankwise.training.loops.chains import Folds, build_chain, final_rank, fold
from rankwise.training.loops.optimization import build_optimizer, build_schedule
from rankwise.training.loops.results import (
    Tell,
    Trained,
    count_parameters,
    finite_loss_required,
    is_stalled,
)
from rankwise.training.loops.step import Step, take_step
from rankwise.training.probes.during_training import Diagnostics
from rankwise.training.records import CurvePoint, StepPoint


def train_lean(job: Job, *, tell: Tell | None = None) -> Trained:
    """Train the job to its end; an error leaves the base as it was."""
    chain = build_chain(job)
    with chain or nullcontext(), finite_loss_required(job.model):
        optimizer = build_optimizer(job.model, job.settings)
        parameters = count_parameters(job.model)
        diagnostics = Diagnostics(job)
        diagnostics.measure(0)
        curve, log = [_point(job, step=0, train_loss=None)], StepLog(job)
        folds = Folds(job, chain)
        for point in _train(job, optimizer, chain, folds, diagnostics, log):
            curve.append(point)
            if tell is not None:
                tell(point)
            losses = [each.validation_loss for each in curve]
            if is_stalled(losses, job.settings.training.patience):
                break
        if chain is not None:
            chain.finish(final_rank=final_rank(job))
    return Trained(
        curve,
        parameters,
        best=curve[-1],
        diagnostics=diagnostics.points,
        diagnostics_seconds=diagnostics.seconds,
        steps=log.points,
        folds=folds.steps,
    )


def _train(
    job: Job,
    optimizer: torch.optim.Optimizer,
    chain: Chain | None,
    folds: Folds,
    diagnostics: Diagnostics,
    log: StepLog,
) -> Iterator[CurvePoint]:
    training, step = job.settings.training, 0
    schedule = build_schedule(optimizer, training, steps=job.steps)
    for epoch in range(training.epochs):
        job.model.train()
        losses = []
        for index in job.order(epoch).split(training.batch_size):
            step += 1
            taken = take_step(job, optimizer, index, step=step, is_measured=log.is_due(step))
            losses.append(taken.loss)
            log.add(step, taken, optimizer)
            schedule.step()
            if chain is not None and folds.is_due(step):
                fold(chain, job, optimizer, step=step)
            diagnostics.measure(step)
        yield _point(job, step=step, train_loss=sum(losses) / len(losses))


class StepLog:
    """What is logged of single steps: at every so many of them, and at the end of each epoch.

    So a ``Trainer`` logs, and the loss of a point is the mean since the one before it.
    """

    def __init__(self, job: Job) -> None:
        self.points: list[StepPoint] = []
        self._every = job.settings.training.logging_steps
        self._per_epoch = job.steps_per_epoch
        self._losses: list[float] = []

    def is_due(self, step: int) -> bool:
        """Say whether the step of that number, from 1 on, is logged."""
        if self._every is None:
            return False
        return step % self._every == 0 or step % self._per_epoch == 0

    def add(self, step: int, taken: Step, optimizer: torch.optim.Optimizer) -> None:
        """Take in a step, before the schedule goes on."""
        self._losses.append(taken.loss)
        if self.is_due(step):
            self.points.append(
                StepPoint(
                    step=step,
                    loss=sum(self._losses) / len(self._losses),
                    learning_rate=float(optimizer.param_groups[0]["lr"]),
                    gradient_norm=taken.gradient_norm,
                )
            )
            self._losses = []


def _point(job: Job, *, step: int, train_loss: float | None) -> CurvePoint:
    result = job.validate()
    return CurvePoint(
        step=step,
        train_loss=train_loss,
        validation_loss=result.loss,
        validation_score=result.score,
    )
