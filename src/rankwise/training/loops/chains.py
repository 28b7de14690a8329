"""The chain that a job's schedule asks for: bare for the lean loop, a callback for ``Trainer``.

A frozen schedule (AsymmLoRA) is a chain of one block.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from rankwise.capture.gradients import capture_gradients
from rankwise.core.seeds import derive_seed
from rankwise.methods.chain.callback import ChainCallback, moments_at_fold
from rankwise.methods.chain.chain import Chain
from rankwise.methods.chain.fold_steps import warning_of_no_fold
from rankwise.methods.chain.share_watch import ShareWatch
from rankwise.tasks.splits import Batch
from rankwise.training.build import settings_errors
from rankwise.training.job import Job
from rankwise.training.settings.schedules import ChainSchedule, FrozenSchedule, SingleSchedule


def build_chain(job: Job) -> Chain | None:
    """Return the chain, which prepares the model at once, or None for a single adapter."""
    schedule = job.settings.method.schedule
    if isinstance(schedule, SingleSchedule):
        return None
    gradients = None
    if schedule.sketch == "gradient":
        gradients = _gradients(job, schedule)
    with settings_errors("method.schedule"):
        chain = Chain(job.model, gradients=gradients, **_choices(job, schedule))
    if isinstance(schedule, ChainSchedule):
        _warn_of_no_fold(job, schedule, chain)
    return chain


def build_callback(job: Job) -> ChainCallback | None:
    """Return the same chain as a callback, or None for a single adapter."""
    schedule = job.settings.method.schedule
    if isinstance(schedule, SingleSchedule):
        return None
    is_watched = isinstance(schedule, ChainSchedule) and schedule.below is not None
    has_gradient = schedule.sketch == "gradient" or is_watched
    batches = [_gradient_batch(job, schedule)] if has_gradient else None
    choices = _choices(job, schedule)
    with settings_errors("method.schedule"):
        if isinstance(schedule, FrozenSchedule):
            return ChainCallback(job.model, single_block=True, batches=batches, **choices)
        return ChainCallback(
            job.model,
            every=schedule.every_steps,
            every_epochs=schedule.every_epochs,
            fractions=schedule.fractions or None,
            below=schedule.below,
            single_block=schedule.is_one_block,
            batches=batches,
            warmup_steps=schedule.warmup_steps,
            moments=schedule.moments,
            reset_optimizer=schedule.reset_optimizer,
            final_rank=schedule.final_rank,
            **choices,
        )


def _warn_of_no_fold(job: Job, schedule: ChainSchedule, chain: Chain) -> None:
    below = schedule.below
    is_watched = below is not None and below.first_look < job.steps
    if schedule.is_one_block or job.fold_steps or is_watched:
        return
    warning = warning_of_no_fold(
        job.steps,
        every=job.block_steps,
        fractions=schedule.fractions,
        below=below,
        has_frozen_sketch=chain.has_frozen_sketch,
        one_block="method.schedule.every_epochs null, without captured_below",
    )
    warnings.warn(warning, stacklevel=3)


class Folds:
    """The folds of a job's chain in a loop that asks after each step.

    Attributes:
        steps: The steps after which it folds, as far as they are known.
    """

    def __init__(self, job: Job, chain: Chain | None) -> None:
        schedule = job.settings.method.schedule
        self.steps = job.fold_steps
        self._end = job.steps
        self._watch: ShareWatch | None = None
        if isinstance(schedule, ChainSchedule) and schedule.below is not None:
            assert chain is not None
            self._watch = ShareWatch(chain, schedule.below, _gradients(job, schedule))

    def is_due(self, step: int) -> bool:
        """Say whether the chain is to fold after a step."""
        if self._watch is not None and step < self._end and self._watch.is_due(step):
            self.steps.append(step)
        return step in self.steps


def fold(chain: Chain, job: Job, optimizer: torch.optim.Optimizer, *, step: int) -> None:
    """Fold a block of the job's chain, with the optimizer's moments as its schedule says."""
    schedule = job.settings.method.schedule
    assert isinstance(schedule, ChainSchedule)
    moments = moments_at_fold(schedule.moments, reset_optimizer=schedule.reset_optimizer)
    chain.fold(None if moments == "kept" else optimizer, moments=moments, step=step)


def final_rank(job: Job) -> int | None:
    """Return the rank to which the finished chain is compressed, or None for all of it."""
    schedule = job.settings.method.schedule
    return schedule.final_rank if isinstance(schedule, ChainSchedule) else None


def _choices(job: Job, schedule: FrozenSchedule | ChainSchedule) -> dict[str, Any]:
    seed = derive_seed(job.settings.seed, "chain")
    return {"side": schedule.side, "sketch": schedule.sketch, "seed": seed}


def _gradients(job: Job, schedule: FrozenSchedule | ChainSchedule) -> Callable[..., None]:
    return partial(capture_gradients, job.model, batches=[_gradient_batch(job, schedule)])


def _gradient_batch(job: Job, schedule: FrozenSchedule | ChainSchedule) -> Batch:
    # A single batch, so that each layer is decomposed and freed within the backward pass.
    rows = job.sample(schedule.gradient_samples, schedule.gradient_sampling)
    return job.splits.train.take(rows)
