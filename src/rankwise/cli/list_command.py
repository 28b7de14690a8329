"""``rankwise list``: methods, tasks and recipes, one line each."""

from __future__ import annotations

import argparse
from typing import Any

from rich.console import Console
from rich.table import Table

from rankwise.methods.table import METHODS
from rankwise.tasks.table import TASKS
from rankwise.training.settings.recipe import recipe_names, recipe_summary


def run(arguments: argparse.Namespace, _overrides: dict[str, Any]) -> int:
    """Print the table that ``arguments.what`` names."""
    table = Table(box=None, pad_edge=False)
    if arguments.what == "methods":
        for heading in ("method", "what it does", "source"):
            table.add_column(heading)
        for name, method in METHODS.items():
            table.add_row(name, method.summary, method.source)
    elif arguments.what == "tasks":
        for heading in ("task", "version", "metrics"):
            table.add_column(heading)
        for name, task in TASKS.items():
            table.add_row(name, str(task.version), ", ".join(task.metrics))
    else:
        for heading in ("recipe", "what it does"):
            table.add_column(heading)
        for name in recipe_names():
            table.add_row(name, recipe_summary(name))
    Console().print(table)
    return 0
