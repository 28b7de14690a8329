"""Looking modules up, and lending a model for a moment so that it comes back as it was."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import nn


@contextlib.contextmanager
def preserved_state(model: nn.Module) -> Iterator[None]:
    """Restore train/eval modes, ``requires_grad``, ``.grad`` and the global random states on exit.

    Whatever happens inside, also an exception, leaves no trace in these four. Hooks are the
    business of those who set them.
    """
    modes = {module: module.training for module in model.modules()}
    parameters = [(p, p.requires_grad, p.grad) for p in model.parameters()]
    for parameter, _, _ in parameters:
        # A backward pass inside must not add to the caller's own tensor.
        parameter.grad = None
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            for module, training in modes.items():
                module.training = training
            for parameter, requires_grad, gradient in parameters:
                parameter.requires_grad_(requires_grad)
                parameter.grad = gradient


def device_of(model: nn.Module) -> torch.device:
    """The device of the first parameter of ``model``."""
    return next(model.parameters()).device
