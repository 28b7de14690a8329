"""From settings to a task, and from a refused argument to an error about a setting.

What the floors below refuse as an argument is a user's setting here, so their ``ValueError`` leaves
this floor as a ``SettingsError`` that names the setting.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from rankwise.core.errors import SettingsError
from rankwise.tasks.table import Task, task_class
from rankwise.training.settings import TaskSettings


def build_task(settings: TaskSettings) -> Task:
    """Return the task that the settings describe."""
    return task_class(settings.name)(
        seed=settings.seed,
        pretrain_epochs=settings.pretrain_epochs,
        pretrain_learning_rate=settings.pretrain_learning_rate,
    )


@contextlib.contextmanager
def settings_errors(place: str) -> Iterator[None]:
    """Turn a refused argument into an error about the setting ``place``."""
    try:
        yield
    except ValueError as error:
        raise SettingsError(f"{place}: {error}") from error


def state_bytes(folder: Path) -> int:
    """Return the bytes of the tensors stored in ``folder``."""
    return sum(file.stat().st_size for file in folder.rglob("*.safetensors"))
