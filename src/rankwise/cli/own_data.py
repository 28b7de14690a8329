"""What a command says of data of the user's own, and the recipe that it writes for them."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import Any

from rankwise.cli.showing import say
from rankwise.core.outside_text import one_line
from rankwise.core.records import write_text
from rankwise.training.settings.data_recipe import COLUMNS
from rankwise.training.settings.own_data import OwnDataSettings
from rankwise.training.settings.recipe import Recipe, is_own_data
from rankwise.training.settings.run import RunSettings
from rankwise.training.settings.written import as_yaml, write_recipe

FILE = "recipe.yaml"


def check_own_data(run: RunSettings, *, is_told: bool = True) -> None:
    """Read the data before any model is loaded, and say, if told, how many rows each split has.

    Does nothing for the tasks of the papers.

    Raises:
        DataError: They are broken, or not as the settings say.
    """
    if not isinstance(run.task, OwnDataSettings):
        return
    from rankwise.training.build import build_task
    from rankwise.training.own_data import described

    facts = build_task(run).splits().facts
    if is_told:
        say(*described(facts))


def tell_guesses(recipe: Recipe, arguments: argparse.Namespace, overrides: dict[str, Any]) -> None:
    """Say which settings of the task were guessed from data in the place of a recipe."""
    if not is_own_data(arguments.recipe):
        return
    task, given = recipe.task.model_dump(mode="json"), overrides.get("task", {})
    guessed = {
        name: task[name]
        for name in ("name", *COLUMNS, "delimiter")
        if task.get(name) and not (isinstance(given, dict) and given.get(name))
    }
    if guessed:
        say(
            "guessed: "
            + ", ".join(f"--task.{name} {_shown(value)}" for name, value in guessed.items())
        )


def keep_recipe(recipe: Recipe, arguments: argparse.Namespace, output: Path) -> None:
    """Write the recipe that was made of data beside the results; it runs again by itself."""
    if not is_own_data(arguments.recipe):
        return
    heading = f"# Made of {one_line(arguments.recipe)}; it runs by itself."
    write_text(output / FILE, f"{heading}\n{write_recipe(recipe)}")


def _shown(value: Any) -> str:
    """Return a value as a shell takes it."""
    return shlex.quote(",".join(value) if isinstance(value, list) else as_yaml(value))
