"""``rankwise list``: methods, tasks, recipes and settings, one line each."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import Any

from rich.table import Table

from rankwise.cli.showing import add_columns, add_row, show_table
from rankwise.core.errors import SettingsError
from rankwise.methods.table import METHODS
from rankwise.tasks.table import TASKS
from rankwise.training.settings.catalogue import all_settings
from rankwise.training.settings.recipe import recipe_names, recipe_summary
from rankwise.training.settings.written import as_yaml

SECTIONS = ()
Row = dict[str, str]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what can be listed."""
    parser.add_argument(
        "what", nargs="?", choices=tuple(_LISTS), help="(default: all but settings)"
    )
    parser.add_argument(
        "section", nargs="?", help="of the settings, such as training or method.adapter"
    )
    parser.add_argument("--json", action="store_true", help="JSON instead of a table")


def run(arguments: argparse.Namespace, _overrides: dict[str, Any]) -> int:
    """Print the lists that are asked for."""
    if arguments.section is not None and arguments.what != "settings":
        raise SettingsError(f"only settings have sections, got {arguments.section!r}")
    names = [arguments.what] if arguments.what else [name for name in _LISTS if name != "settings"]
    rows = {name: _LISTS[name]() for name in names}
    if arguments.section is not None:
        rows["settings"] = _settings(arguments.section)
    if arguments.json:
        print(json.dumps(rows[names[0]] if arguments.what else rows, indent=2, ensure_ascii=False))
        return 0
    for name in names:
        show_table(_table(rows[name]), fits=True)
        if len(names) > 1:
            print()
    return 0


def settings_table(section: str) -> Table:
    """Return the settings of a section as a table."""
    return _table(_settings(section))


def _methods() -> list[Row]:
    return [
        {"method": name, "what it does": method.summary, "source": method.source}
        for name, method in METHODS.items()
    ]


def _tasks() -> list[Row]:
    return [
        {"task": name, "version": str(facts.version), "metrics": ", ".join(facts.metrics)}
        for name, facts in TASKS.items()
    ]


def _recipes() -> list[Row]:
    return [{"recipe": name, "what it does": recipe_summary(name)} for name in recipe_names()]


def _settings(section: str | None = None) -> list[Row]:
    settings = [
        each
        for each in all_settings()
        if section is None or each.name == section or each.name.startswith(f"{section}.")
    ]
    if not settings:
        sections = dict.fromkeys(each.name.rpartition(".")[0] for each in all_settings())
        raise SettingsError(
            f"no section of settings {section!r}; there are {', '.join(filter(None, sections))}"
        )
    return [
        {
            "setting": each.name,
            "of": ", ".join(each.of),
            "default": as_yaml(each.schema["default"]) if each.has_default else "",
            "unit": each.unit,
            "meaning": each.meaning,
            "values": each.values,
        }
        for each in settings
    ]


_LISTS: dict[str, Callable[[], list[Row]]] = {
    "methods": _methods,
    "tasks": _tasks,
    "recipes": _recipes,
    "settings": _settings,
}


def _table(rows: list[Row]) -> Table:
    table = Table(box=None, pad_edge=False)
    add_columns(table, rows[0], texts=tuple(rows[0]))
    for row in rows:
        add_row(table, *row.values())
    return table
