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
from rankwise.training.loops.chains import build_chain, final_rank, resets_optimizer
from rankwise.training.loops.optimization import build_optimizer, build_schedule
from rankwise.training.loops.results import (
    Trained,
    count_parameters,
    finite_loss_required,
    is_stalled,
)
from rankwise.training.loops.step import take_step
from rankwise.training.probes.during_training import Diagnostics
from rankwise.training.records import CurvePoint


def train_lean(job: Job) -> Trained:
    """Train the job to its end; an error leaves the base as it was."""
    chain = build_chain(job)
    with chain or nullcontext(), finite_loss_required(job.model):
        optimizer = build_optimizer(job.model, job.settings)
        parameters = count_parameters(job.model)
        diagnostics = Diagnostics(job)
        diagnostics.measure(0)
        curve = [_point(job, step=0, train_loss=None)]
        for point in _train(job, optimizer, chain, diagnostics):
            curve.append(point)
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
    )


def _train(
    job: Job, optimizer: torch.optim.Optimizer, chain: Chain | None, diagnostics: Diagnostics
) -> Iterator[CurvePoint]:
    training, folds, step = job.settings.training, job.fold_steps, 0
    schedule = build_schedule(optimizer, training, steps=job.steps)
    for epoch in range(training.epochs):
        job.model.train()
        losses = []
        for index in job.order(epoch).split(training.batch_size):
            losses.append(take_step(job, optimizer, index))
            schedule.step()
            step += 1
            if chain is not None and step in folds:
                chain.fold(optimizer if resets_optimizer(job) else None)
            diagnostics.measure(step)
        yield _point(job, step=step, train_loss=sum(losses) / len(losses))


def _point(job: Job, *, step: int, train_loss: float | None) -> CurvePoint:
    result = job.validate()
    return CurvePoint(
        step=step,
        train_loss=train_loss,
        validation_loss=result.loss,
        validation_score=result.score,
    )
