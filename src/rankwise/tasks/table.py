"""The tasks by name. A new task is one file and one line here."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from torch import nn

from rankwise.core.errors import SettingsError, nearest_names
from rankwise.tasks.digits import DigitsTask
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


TASKS: dict[str, type[DigitsTask]] = {"digits": DigitsTask}


def task_class(name: str) -> type[DigitsTask]:
    """Look a task up by name.

    Raises:
        SettingsError: There is no such task.
    """
    if name not in TASKS:
        raise SettingsError(f"task.name: no task {name!r}; {nearest_names(name, TASKS)}")
    return TASKS[name]
