"""What one run of a method takes, as numbers; ``timing`` measures them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RunCost:
    """What one run takes.

    Attributes:
        run: Its name.
        epochs: Passes over the training rows.
        steps: Optimizer steps, all epochs together.
        trainable_parameters: Of the adapter.
        stored_bytes: Of what it leaves.
        peak_memory_bytes: Of the accelerator, or else of the process.
        start_seconds: Reading, building and initialising.
        step_seconds: Of an optimizer step, the median of a few.
        scoring_seconds: Of the validation rows, which are scored before training and every epoch.
    """

    run: str
    epochs: int
    steps: int
    trainable_parameters: int
    stored_bytes: int
    peak_memory_bytes: int
    start_seconds: float
    step_seconds: float
    scoring_seconds: float

    @property
    def seconds(self) -> float:
        """From beginning to end."""
        return self.seconds_of(self.epochs)

    def seconds_of(self, epochs: int) -> float:
        """Return the seconds of the same run with so many epochs."""
        steps = self.steps / self.epochs * epochs
        return self.start_seconds + steps * self.step_seconds + (epochs + 1) * self.scoring_seconds
