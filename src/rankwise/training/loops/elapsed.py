"""What a training by ``Trainer`` has taken so far, kept in its checkpoints.

A run that was stopped and goes on has cost what all its processes took, up to the checkpoints from
which the next one began.
"""

from __future__ import annotations

import time
from typing import Any

from rankwise.training.loops.checkpointed import CheckpointedCallback
from rankwise.training.probes.during_training import DiagnosticsCallback


class ElapsedCallback(CheckpointedCallback):
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

    def kept(self) -> dict[str, Any]:
        """Return the seconds until now, and those of the diagnostics among them."""
        seconds = self.before + time.perf_counter() - self._begun
        return {"seconds": seconds, "diagnosing": self.diagnosing}

    def take_up(self, kept: dict[str, Any]) -> None:
        """Count on from what a checkpoint has kept."""
        self.before, self.diagnosing_before = kept["seconds"], kept["diagnosing"]
