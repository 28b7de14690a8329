"""A model that is ready to train, with everything that decides how, and the one way to make it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from rankwise.core.accelerator import on_accelerator
from rankwise.core.seeds import derive_seed
from rankwise.evaluation.scores import Evaluation, evaluate
from rankwise.methods.chain.fold_steps import fold_steps
from rankwise.tasks.splits import Batch, Splits
from rankwise.tasks.table import Task
from rankwise.training.adapter import attach_adapter
from rankwise.training.build import build_task
from rankwise.training.loops.order import epoch_order
from rankwise.training.loops.results import non_finite_loss
from rankwise.training.settings.adapters import FactoredSettings
from rankwise.training.settings.run import RunSettings, TrainingSettings
from rankwise.training.settings.schedules import ChainSchedule, Sampling


@dataclass(frozen=True)
class Job:
    """What every loop takes."""

    settings: RunSettings
    task: Task
    model: nn.Module
    splits: Splits

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps an epoch; the last one may be of fewer rows."""
        return self.steps // self.settings.training.epochs

    @property
    def steps(self) -> int:
        """Optimizer steps in all."""
        return steps_of(self.settings.training, rows=len(self.splits.train))

    @property
    def fold_steps(self) -> list[int]:
        """The steps after which a chain folds; at the very end it is finished instead."""
        schedule = self.settings.method.schedule
        if not isinstance(schedule, ChainSchedule):
            return []
        return fold_steps(self.steps, every=self.block_steps, fractions=schedule.fractions)

    @property
    def block_steps(self) -> int | None:
        """How many steps a block of a chain is long, if the schedule says that."""
        schedule = self.settings.method.schedule
        if not isinstance(schedule, ChainSchedule):
            return None
        if schedule.every_epochs is not None:
            return schedule.every_epochs * self.steps_per_epoch
        return schedule.every_steps

    def order(self, epoch: int) -> Tensor:
        """Return the order of the training rows in an epoch, int64 of shape (rows,)."""
        rows, training = self.splits.train, self.settings.training
        return epoch_order(
            len(rows),
            seed=self.settings.seed,
            epoch=epoch,
            lengths=rows.lengths if training.group_by_length else None,
            batch_size=training.batch_size,
        )

    def sample(self, rows: int, sampling: Sampling) -> Tensor:
        """Return the numbers of training rows for an initialization, int64 of shape (rows,).

        They are drawn by the seed, so that each seed of a comparison begins from others, or are
        the first ones; all rows where there are no more.
        """
        return _sample(self.splits, rows, sampling, seed=self.settings.seed)

    def batches(self, rows: Tensor, *, batch_size: int | None = None) -> list[Batch]:
        """Return the training rows of these numbers as batches."""
        size = batch_size or self.settings.training.batch_size
        return [self.splits.train.take(index) for index in rows.split(size)]

    def place(self) -> None:
        """Bring the model to where it trains."""
        placed(self.model, self.settings.training)

    def validate(self) -> Evaluation:
        """Score the model on validation.

        Raises:
            TrainingError: Its loss there is not finite.
        """
        bf16 = self.settings.training.bf16
        result = evaluate(self.model, self.splits.validation, self.task, bf16=bf16)
        if not math.isfinite(result.loss):
            raise non_finite_loss(result.loss, place=" on validation")
        return result


def placed(model: nn.Module, training: TrainingSettings) -> nn.Module:
    """Bring a model to where runs of these settings compute, and return it.

    It is the GPU of the process, if there is one, as the Trainer has it; the lean loop's tiny
    models compute on the CPU everywhere.
    """
    return model if training.loop == "lean" else on_accelerator(model)


def prepare_job(settings: RunSettings, base: Path, *, task: Task | None = None) -> Job:
    """Make the job of a run: its task, its rows, its base model, and its adapter on it.

    Args:
        settings: Of the run.
        base: The folder where base models that the task has to make are kept.
        task: The run's own, where it was built before.

    Raises:
        SettingsError: A setting does not fit the task or the model.
    """
    task = task or build_task(settings)
    splits = task.splits()
    model = attach_adapter(
        task.base_model(base),
        settings.method,
        task=task,
        seed=settings.seed,
        batches=_placing_batches(settings, splits),
    )
    return Job(settings, task, model, splits)


def _placing_batches(settings: RunSettings, splits: Splits) -> list[Batch] | None:
    """Return the training rows by whose gradient ranks are placed, if they are."""
    adapter = settings.method.adapter
    if not isinstance(adapter, FactoredSettings) or adapter.rank_budget is None:
        return None
    rows = _sample(splits, adapter.rank_samples, "random", seed=settings.seed)
    return [splits.train.take(index) for index in rows.split(settings.training.batch_size)]


def _sample(splits: Splits, rows: int, sampling: Sampling, *, seed: int) -> Tensor:
    size = len(splits.train)
    if sampling == "first":
        return torch.arange(min(rows, size))
    generator = torch.Generator().manual_seed(derive_seed(seed, "sample"))
    return torch.randperm(size, generator=generator)[:rows]


def steps_of(training: TrainingSettings, *, rows: int) -> int:
    """Return the optimizer steps over ``rows`` training rows, all epochs together."""
    batches = math.ceil(rows / training.batch_size)
    return math.ceil(batches / training.accumulation_steps) * training.epochs
