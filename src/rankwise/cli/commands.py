"""The commands by name. A new one is its file here, ``NAME_command.py``, and one line below.

A file is imported when its command is used, and begins cheaply: it declares its arguments, reads
settings, and imports what needs torch in ``run``, where nothing can be refused any more without it.
So help, lists and mistakes take no seconds.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Collection
from typing import Any, Protocol, cast

# What `rankwise --help` says of each, in the order in which it is shown.
COMMANDS = {
    "quickstart": "compare LoRA with the four methods on digits: minutes, no download",
    "new": "write a recipe for data of your own: five questions",
    "train": "train one run: initialise, train, evaluate, save, record",
    "init": "write an initialised adapter, for any trainer",
    "doctor": "check runs before they start: one batch, one step, warnings",
    "compare": "compare methods × learning rates × seeds: a recipe's, or on your own data",
    "reproduce": "make a table of a paper: all its tasks, seeds and stages, resumable",
    "federate": "train the recipe's methods over several clients, on Flower",
    "evaluate": "score a run or an adapter on a split of a task",
    "generate": "let a run's model write: a prompt, or a file of prompts",
    "chat": "talk with a run's model",
    "export": "write a run as a plain LoRA or with merged weights",
    "merge": "write the full weights of a run, its change merged in",
    "push": "upload a run, or what was exported of it, to the Hub",
    "report": "write report.html from the records of a comparison or a run",
    "power": "print how often comparisons err, and what they can find",
    "list": "list methods, tasks, recipes and settings",
    "show": "print a recipe with every setting as it is used",
    "help": "explain a command or a setting",
    "schema": "print a JSON Schema by which editors check recipes",
}


class Command(Protocol):
    """What the file of a command has.

    Attributes:
        SECTIONS: The sections of settings that may be given as dotted options.
    """

    SECTIONS: Collection[str]

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the command's own arguments."""
        ...

    def run(self, arguments: argparse.Namespace, overrides: dict[str, Any], /) -> int:
        """Do what is asked, with the settings that were given as options; return the exit code."""
        ...


def load_command(name: str) -> Command:
    """Import the file of a command."""
    return cast(Command, importlib.import_module(f"rankwise.cli.{name}_command"))
