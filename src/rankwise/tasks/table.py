"""The tasks by name. A new task is one file and one line here."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from torch import nn

from rankwise.tasks.digits import DigitsTask
from rankwise.tasks.mnist import MnistTask
from rankwise.tasks.splits import Splits


class Task(Protocol):
    """What the floors above ask of a task."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> int: ...
    @property
    def metric(self) -> str: ...
    @property
    def target_modules(self) -> tuple[str, ...]: ...

    def splits(self) -> Splits:
        """Return the rows to adapt to."""
        ...

    def base_model(self, cache: Path) -> nn.Module:
        """Return the pretrained model; what had to be made for it is kept in ``cache``."""
        ...


TASKS = {task.name: task for task in (DigitsTask, MnistTask)}
