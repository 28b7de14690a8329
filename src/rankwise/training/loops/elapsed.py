"""What a training by ``Trainer`` has taken so far, kept in its checkpoints.

A run that was stopped and goes on has cost what all its processes took, up to the checkpoints from
which the next one began.
"""

from __future__ import annotations

import time
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState

from rankwise.training.probes.during_training import DiagnosticsCallback


class ElapsedCallback(TrainerCallback, ExportableState):
    """Has each checkpoint say how many seconds lie behind it.

    Args:
        diagnostics: Measures meanwhile, which is told apart.

    Attributes:
        before: Seconds of the processes before this one, diagnostics included.
        diagnosing_before: Of these, the diagnostics'.
    """

    def __init__(self, diagnostics: DiagnosticsCallback) -> None:
        self._diagnostics = diagnostics
        self._begun = time.perf_counter()
        self.before = 0.0
        self.diagnosing_before = 0.0

    @property
    def diagnosing(self) -> float:
        """Seconds of diagnostics, those of the processes before included."""
        return self.diagnosing_before + self._diagnostics.seconds

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        seconds = self.before + time.perf_counter() - self._begun
        return {"args": {}, "attributes": {"seconds": seconds, "diagnosing": self.diagnosing}}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Take up what a checkpoint has kept; one of an earlier version has nothing."""
        kept: Any = state.stateful_callbacks
        # Without an entry of its own the next checkpoint could not be written.
        attributes = kept.setdefault(type(self).__name__, self.state())["attributes"]
        if state.global_step:
            self.before, self.diagnosing_before = attributes["seconds"], attributes["diagnosing"]
