"""One step of a plain loop: the rows' loss, its gradient, and the optimizer."""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor, nn
from torch.optim import Optimizer

from rankwise.training.job import Job
from rankwise.training.loops.optimization import allocate_budget, trained_parameters


class Step(NamedTuple):
    """The loss of the rows before the step, and the norm of its gradient where it was asked for."""

    loss: float
    gradient_norm: float | None


def take_step(
    job: Job,
    optimizer: Optimizer,
    index: Tensor,
    *,
    step: int | None = None,
    is_measured: bool = False,
) -> Step:
    """Train on the rows ``index``, int64 of shape (rows,); ``step`` is this one's number from 1."""
    loss = job.model(**job.splits.train.take(index))["loss"]
    loss.backward()
    norm, limit = None, job.settings.training.max_grad_norm
    if limit is not None or is_measured:
        # Without a limit it is the norm alone.
        norm = nn.utils.clip_grad_norm_(trained_parameters(optimizer), limit or math.inf)
    optimizer.step()
    if step is not None:
        allocate_budget(job.model, step)
    optimizer.zero_grad()
    return Step(loss.item(), None if norm is None else float(norm))
