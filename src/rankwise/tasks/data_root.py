"""Where local data lie: in ``task.data_root``, else in the environment's ``RANKWISE_DATA``."""

from __future__ import annotations

import os
from pathlib import Path

from rankwise.core.errors import SettingsError

VARIABLE = "RANKWISE_DATA"


def find_data_root(setting: Path | None) -> Path | None:
    """Return the folder laid out as ``<family>/<task>/<split>.*``, or None if none is named.

    Raises:
        SettingsError: What is named is no folder.
    """
    named = setting or os.environ.get(VARIABLE)
    if not named:
        return None
    if not Path(named).is_dir():
        source = "task.data_root" if setting else VARIABLE
        raise SettingsError(f"{source} names no folder: {named}")
    return Path(named)


def required_data_root(root: Path | None, *, task: str) -> Path:
    """Return ``root``, for a task that has no other source.

    Raises:
        SettingsError: It is None.
    """
    if root is None:
        raise SettingsError(
            f"task {task!r} needs its files: set --task.data_root FOLDER, or {VARIABLE} in the "
            "environment"
        )
    return root
