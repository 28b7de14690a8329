"""A model that is ready to train, with everything that decides how."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor, nn

from rankwise.tasks.splits import Splits
from rankwise.training.settings import ChainSchedule, RunSettings


@dataclass(frozen=True)
class Job:
    """What both loops take."""

    settings: RunSettings
    model: nn.Module
    splits: Splits

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps an epoch; the last batch of an epoch may be smaller."""
        return math.ceil(len(self.splits.train) / self.settings.training.batch_size)

    @property
    def steps(self) -> int:
        """Optimizer steps in all."""
        return self.steps_per_epoch * self.settings.training.epochs

    @property
    def fold_steps(self) -> list[int]:
        """The steps after which a chain folds; at the very end it is finished instead."""
        schedule = self.settings.method.schedule
        if not isinstance(schedule, ChainSchedule):
            return []
        block = schedule.every_epochs * self.steps_per_epoch
        return list(range(block, self.steps, block))

    def first_rows(self, rows: int) -> list[dict[str, Tensor]]:
        """Return batches of the training split, in its own order, with ``rows`` rows in all."""
        size = self.settings.training.batch_size
        batches, left = [], min(rows, len(self.splits.train))
        for batch in self.splits.train.batches(size):
            if left <= 0:
                break
            batches.append({name: column[:left] for name, column in batch.items()})
            left -= size
        return batches
