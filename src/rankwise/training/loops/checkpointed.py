"""What a callback of the ``Trainer`` has counted, kept in checkpoints and taken up from them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState


class CheckpointedCallback(TrainerCallback, ExportableState, ABC):
    """Numbers of its own in every checkpoint; one of an earlier version has none."""

    @abstractmethod
    def kept(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""

    @abstractmethod
    def take_up(self, kept: dict[str, Any]) -> None:
        """Go on from what a checkpoint has kept."""

    def state(self) -> dict[str, Any]:
        """Return the same in the form that the ``Trainer`` writes."""
        return {"args": {}, "attributes": self.kept()}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Go on from the checkpoint, if the training begins at one."""
        written: Any = state.stateful_callbacks
        # Without an entry of its own the next checkpoint could not be written.
        kept = written.setdefault(type(self).__name__, self.state())["attributes"]
        if state.global_step:
            self.take_up(kept)
