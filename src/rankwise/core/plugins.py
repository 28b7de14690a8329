"""Importing a user's own modules that add to Rankwise; with what they add: ``training/plugins.py``.

A plugin is named in a recipe (``plugins: [my_package.my_module]``) or on the command line
(``rankwise --plugin my_package.my_module evaluate ...``), and says what it adds as it is imported.
The module of a metric ``MODULE:FUNCTION`` is one too. Modules of the current folder are found.
Nothing is imported that the user has not named: a record that a plugin had a part in says so, and
is refused until the plugin is named again.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from rankwise.core.errors import SettingsError

_LOADED: list[str] = []


def load_plugins(names: Iterable[str]) -> None:
    """Import plugins, each once a process.

    Raises:
        SettingsError: There is no such module.
    """
    for name in names:
        if name in _LOADED:
            continue
        try:
            with _current_folder():
                importlib.import_module(name)
        except ModuleNotFoundError as error:
            # What the plugin itself misses is a fault of the plugin, told by its traceback.
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise
            raise SettingsError(
                f"plugins: there is no module {name!r}: install it, or add its folder to PYTHONPATH"
            ) from None
        _LOADED.append(name)


@contextmanager
def _current_folder() -> Iterator[None]:
    """Let modules of the current folder be imported, as ``python -m`` does."""
    folder = os.getcwd()
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)


def modules_of_metrics(metrics: Any) -> list[str]:
    """Return the modules of the metrics ``MODULE:FUNCTION`` among those of a recipe or an option.

    Who names such a metric names its module as a plugin; a record that names one does not.
    """
    names = metrics.split(",") if isinstance(metrics, str) else metrics
    if not isinstance(names, list):
        return []  # refused where settings are checked
    return [str(name).partition(":")[0].strip() for name in names if ":" in str(name)]


def loaded_plugins() -> list[str]:
    """Return the plugins that the user has named so far."""
    return list(_LOADED)


def check_plugins(names: Iterable[str], *, what: str) -> None:
    """Refuse what plugins had a part in that the user has not named.

    Raises:
        SettingsError: Some were not imported.
    """
    if missing := [name for name in names if name not in _LOADED]:
        options = " ".join(f"--plugin {name}" for name in missing)
        raise SettingsError(
            f"{what} was made with plugins that are not imported unless you name them: "
            f"rankwise {options} COMMAND ..."
        )
