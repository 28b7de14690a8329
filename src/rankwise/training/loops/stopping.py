"""A training by ``Trainer`` that is stopped by a signal goes on exactly where it stood.

Ctrl-C or SIGTERM waits for the end of the step, and a checkpoint follows. Transformers' own
``enable_jit_checkpoint`` hears SIGTERM alone, and then ends a training as if it were over: scored,
folded together and recorded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import Trainer, TrainerControl, TrainerState, TrainingArguments

from rankwise.training.loops.checkpointed import CheckpointedCallback


class StopCallback(CheckpointedCallback):
    """Saves a checkpoint at the end of the step in which a signal came, and stops there.

    After the last step of an epoch it is the epoch's own checkpoint, behind its evaluation. What
    of a mean loss is summed and not logged yet is kept in every checkpoint.

    Args:
        trainer: The Trainer that this callback is given to.
        received: Not empty when a signal has come, see :func:`delayed_interrupt`.
        steps_per_epoch: Optimizer steps an epoch.
    """

    def __init__(
        self, trainer: Trainer, received: Sequence[object], *, steps_per_epoch: int
    ) -> None:
        self._trainer = trainer
        self._received = received
        self._steps_per_epoch = steps_per_epoch
        self._loss = 0.0
        self._stops = False

    def kept(self) -> dict[str, Any]:
        """Return the sum of the losses since the step of the last log."""
        since = getattr(self._trainer, "_globalstep_last_logged", 0)
        return {"loss": self._loss, "since": since}

    def take_up(self, kept: dict[str, Any]) -> None:
        """Go on with the sum that a checkpoint has kept."""
        self._trainer._tr_loss += kept["loss"]
        self._trainer._globalstep_last_logged = kept["since"]

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Ask for a checkpoint if a signal has come, unless the epoch ends here."""
        self._stops = self._is_stopped()
        if self._stops and state.global_step % self._steps_per_epoch:
            losses = self._trainer._tr_loss
            accelerator: Any = self._trainer.accelerator
            self._loss = accelerator.reduce(losses, reduction="mean").item()
            control.should_save = True

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Stop behind the checkpoint."""
        if self._stops:
            raise KeyboardInterrupt

    def _is_stopped(self) -> bool:
        """Say whether a signal has come, to any of the processes that train together."""
        accelerator: Any = self._trainer.accelerator
        if accelerator.num_processes == 1:
            return bool(self._received)
        count = torch.tensor(float(bool(self._received)), device=accelerator.device)
        return accelerator.reduce(count, reduction="sum").item() > 0
