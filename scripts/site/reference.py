"""Pages that MkDocs makes out of the code itself: settings, commands, and the names in tables.

They are made when the site is built and lie nowhere else, so they cannot say what is no longer so.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from rankwise.cli.commands import COMMANDS, load_command
from rankwise.methods.table import METHODS
from rankwise.tasks.table import TASKS
from rankwise.training.settings.catalogue import Setting, all_settings
from rankwise.training.settings.recipe import recipe_names, recipe_summary
from rankwise.training.settings.written import as_yaml


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages to those that lie in the folder."""
    for place, write in PAGES.items():
        files.append(File.generated(config, place, content=write()))
    return files


def settings_page() -> str:
    """Write every setting of every section, with its default, unit, values and meaning."""
    by_section: dict[str, list[Setting]] = {}
    for each in all_settings():
        by_section.setdefault(each.name.rpartition(".")[0], []).append(each)
    lines = [
        "# Settings",
        "",
        "Every setting of a recipe, read off the settings' own types. `rankwise help NAME` says "
        "the same of one; [how to say them](../guides/settings.md). A setting without a default "
        "has to be named.",
    ]
    for section, settings in by_section.items():
        lines += ["", f"## {section or 'At the top'}", "", '<div class="settings" markdown>', ""]
        lines += _table(["setting", "default", "meaning"])
        lines += [_row(_cells(each)) for each in settings]
        lines += ["", "</div>"]
    return "\n".join(lines) + "\n"


def commands_page() -> str:
    """Write every command with its arguments."""
    lines = [
        "# Commands",
        "",
        "`rankwise COMMAND ...`; what `rankwise help COMMAND` prints. Where a command takes a "
        "recipe, any [setting](settings.md) of it may follow as an option.",
    ]
    for name, summary in COMMANDS.items():
        parser = argparse.ArgumentParser(prog=f"rankwise {name}", add_help=False)
        command = load_command(name)
        command.add_arguments(parser)
        lines += ["", f"## {name}", "", f"{summary[0].upper()}{summary[1:]}.", ""]
        lines += ["```text", parser.format_usage().strip(), "```", ""]
        if actions := parser._actions:
            lines += _table(["argument", "meaning", "default"])
            lines += [_row(_argument(each)) for each in actions]
        if command.SECTIONS:
            sections = ", ".join(f"`{each}`" for each in command.SECTIONS)
            lines += ["", f"Settings that may follow: {sections}."]
    return "\n".join(lines) + "\n"


def names_page() -> str:
    """Write what methods, tasks and recipes there are."""
    lines = ["# Methods, tasks, recipes", "", "## Methods", ""]
    lines += _table(["method", "what it does", "source"])
    lines += [
        _row([f"`{name}`", _plain(each.summary), each.source]) for name, each in METHODS.items()
    ]
    lines += ["", "## Tasks", "", *_table(["task", "metrics, the first decides"])]
    lines += [
        _row([f"`{name}`", _plain(", ".join(facts.metrics))]) for name, facts in TASKS.items()
    ]
    lines += ["", "## Recipes", "", *_table(["recipe", "what it does"])]
    lines += [_row([f"`{name}`", _plain(recipe_summary(name))]) for name in recipe_names()]
    return "\n".join(lines) + "\n"


PAGES: dict[str, Callable[[], str]] = {
    "reference/settings.md": settings_page,
    "reference/commands.md": commands_page,
    "reference/names.md": names_page,
}


def _cells(setting: Setting) -> Iterator[str]:
    yield f"`{setting.name}`"
    yield f"`{as_yaml(setting.schema['default'])}`" if setting.has_default else ""
    facts = {"unit": setting.unit, "values": setting.values, "of": ", ".join(setting.of)}
    told = "; ".join(f"{name}: {_plain(fact)}" for name, fact in facts.items() if fact)
    yield f"{_plain(setting.meaning)}<br><small>{told}</small>"


def _argument(action: argparse.Action) -> list[str]:
    value = action.metavar or (action.dest.upper() if action.option_strings else action.dest)
    value = "" if action.nargs == 0 else str(value)
    words = [f"{name} {value}".strip() for name in action.option_strings] or [value]
    choices = f" ({', '.join(map(str, action.choices))})" if action.choices else ""
    default = action.default
    is_told = default not in (None, False, argparse.SUPPRESS, [])
    return [
        ", ".join(f"`{word}`" for word in words),
        _plain(f"{action.help or ''}{choices}"),
        f"`{default}`" if is_told else "",
    ]


def _table(headings: Iterable[str]) -> list[str]:
    headings = list(headings)
    return [_row(headings), _row(["---"] * len(headings))]


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def _plain(text: str) -> str:
    """Keep Markdown from reading anything into a text."""
    return " ".join(text.split()).replace("<", "&lt;").replace("*", r"\*").replace("_", r"\_")
