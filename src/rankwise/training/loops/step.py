"""One step of a plain loop: the rows' loss, its gradient, and the optimizer."""

from __future__ import annotations

from torch import Tensor, nn
from torch.optim import Optimizer

from rankwise.training.job import Job
from rankwise.training.loops.optimization import trained_parameters


def take_step(job: Job, optimizer: Optimizer, index: Tensor) -> float:
    """Train on the rows ``index``, int64 of shape (rows,), and return their loss before."""
    loss = job.model(**job.splits.train.take(index))["loss"]
    loss.backward()
    if (norm := job.settings.training.max_grad_norm) is not None:
        nn.utils.clip_grad_norm_(trained_parameters(optimizer), norm)
    optimizer.step()
    optimizer.zero_grad()
    return loss.item()
