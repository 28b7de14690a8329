"""What a shell offers on TAB: commands, recipes, options, settings and the values that they take.

By argcomplete, the extra ``completion``, for bash and zsh (``eval "$(register-python-argcomplete
rankwise)"``) and fish (``register-python-argcomplete --shell fish rankwise | source``). The shell
then runs this program with the line that was typed in ``COMP_LINE``.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

from rankwise.methods.table import METHODS
from rankwise.training.settings.catalogue import Setting, all_settings
from rankwise.training.settings.recipe import recipe_names

# Texts for their types, as plugins add methods.
_METHODS_AS_VALUES = ("method.name", "compare.baseline", "compare.methods")


def is_asked() -> bool:
    """Say whether a shell asks what it may offer, and nobody wants a command to be run."""
    return "_ARGCOMPLETE" in os.environ


def words_typed() -> list[str]:
    """Return the words of the line that is completed, without the name of the program."""
    return os.environ["COMP_LINE"].split()[1:]


def offer(
    parser: argparse.ArgumentParser,
    own: argparse.ArgumentParser | None,
    sections: Collection[str],
) -> None:
    """Print what may follow the words that were typed, and end the process.

    Args:
        parser: Of all commands.
        own: Of the command that was typed.
        sections: Of the settings that it takes.
    """
    import argcomplete  # optional extra

    if own is not None:
        for action in own._actions:
            if action.dest == "recipe":
                _complete_with(action, _recipes)
        for setting in all_settings():
            is_free = f"--{setting.name}" not in own._option_string_actions
            if setting.name.partition(".")[0] in sections and is_free:
                action = own.add_argument(f"--{setting.name}", help=setting.meaning)
                _complete_with(action, _values(setting))
    argcomplete.autocomplete(parser)


def _complete_with(action: argparse.Action, completer: Any) -> None:
    action.completer = completer  # type: ignore[attr-defined]


def _recipes(prefix: str, **_: Any) -> list[str]:
    files = Path(prefix).parent.glob("*.y*ml")
    return [name for name in [*recipe_names(), *map(str, files)] if name.startswith(prefix)]


def _values(setting: Setting) -> Any:
    words = list(METHODS) if setting.name in _METHODS_AS_VALUES else setting.words

    def values(prefix: str, **_: Any) -> list[str]:
        return [word for word in words if word.startswith(prefix)]

    return values
