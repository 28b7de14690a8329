"""Where a run keeps what: the one place that knows the layout of an output folder.

OUTPUT/base/             the pretrained base model, made once
OUTPUT/runs/NAME/
    settings.json        what the run was begun with
    record.json          settings, versions, curve, scores, costs; there when the run has ended
    test.json            the score on test; there when test was read
    adapter/             the trained adapter, or model.safetensors for full fine-tuning
    reference/           the task-trained reference of abm-lora-task
    checkpoints/         the Trainer's own state while it trains
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunFolder:
    """The paths of the run ``name`` below ``output``."""

    output: Path
    name: str

    @property
    def path(self) -> Path:
        return self.output / "runs" / self.name

    @property
    def base(self) -> Path:
        return self.output / "base"

    @property
    def settings(self) -> Path:
        return self.path / "settings.json"

    @property
    def record(self) -> Path:
        return self.path / "record.json"

    @property
    def test(self) -> Path:
        return self.path / "test.json"

    @property
    def adapter(self) -> Path:
        return self.path / "adapter"

    @property
    def reference(self) -> Path:
        return self.path / "reference"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    def clear(self) -> None:
        """Remove everything that the run has written."""
        shutil.rmtree(self.path, ignore_errors=True)
