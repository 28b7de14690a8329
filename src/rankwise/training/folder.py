"""Where a run keeps what: the one place that knows the layout of an output folder.

OUTPUT/base/             the pretrained base model, made once
OUTPUT/runs/NAME/
    settings.json        what the run was begun with
    steps.csv            loss, learning rate and gradient norm by step; with training.logging_steps
    validation.log       a line an epoch
    test.log             the scores on test; there when test was read
    record.json          settings, versions, curve, scores, costs; there when the run has ended
    test.json            the score on test; there when test was read
    retention.json       what was lost of the base's knowledge; there when that was measured
    adapter/             the trained adapter, or model.safetensors for full fine-tuning
    reference/           the task-trained reference of abm-lora-task
    checkpoints/         the Trainer's own state while it trains
    answers/             completions on the evaluation sets
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path


def runs_below(output: Path) -> Path:
    """Return the folder in which ``output`` holds a folder for each run."""
    return output / "runs"


@dataclass(frozen=True)
class RunFolder:
    """The paths of one run.

    Attributes:
        path: Its own folder.
        base: Where base models that the task had to make are kept.
    """

    path: Path
    base: Path

    @classmethod
    def below(cls, output: Path, name: str) -> RunFolder:
        """Return the folder of the run ``name`` of those that ``output`` holds."""
        return cls(runs_below(output) / name, output / "base")

    @classmethod
    def at(cls, path: Path) -> RunFolder:
        """Return the folder of a run that lies at ``path``, wherever it was moved or copied to.

        Its base models are those of the output folder that it still lies in, or else its own.
        """
        path = path.resolve()
        places = [path / "base", path.parent / "base", path.parent.parent / "base"]
        return cls(path, next((place for place in places if place.is_dir()), places[0]))

    @property
    def settings(self) -> Path:
        return self.path / "settings.json"

    @property
    def record(self) -> Path:
        return self.path / "record.json"

    @property
    def steps(self) -> Path:
        return self.path / "steps.csv"

    @property
    def validation_log(self) -> Path:
        return self.path / "validation.log"

    @property
    def test_log(self) -> Path:
        return self.path / "test.log"

    @property
    def test(self) -> Path:
        return self.path / "test.json"

    @property
    def retention(self) -> Path:
        return self.path / "retention.json"

    @property
    def adapter(self) -> Path:
        return self.path / "adapter"

    @property
    def reference(self) -> Path:
        return self.path / "reference"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def answers(self) -> Path:
        return self.path / "answers"

    def clear(self) -> None:
        """Remove everything that the run has written."""
        shutil.rmtree(self.path, ignore_errors=True)
