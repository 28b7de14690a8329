"""``rankwise help``: what a command, a section of settings or one setting means."""

from __future__ import annotations

import argparse
from typing import Any

from rankwise.cli.arguments import ALL_SECTIONS
from rankwise.cli.commands import COMMANDS
from rankwise.cli.list_command import settings_table
from rankwise.cli.main import main
from rankwise.cli.setting_names import full_name, settings_called
from rankwise.cli.showing import show_table
from rankwise.training.settings.catalogue import Setting
from rankwise.training.settings.written import as_yaml

SECTIONS = ()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what is asked for."""
    parser.add_argument(
        "topic", nargs="?", help="a command, a setting such as training.epochs, or a section"
    )


def run(arguments: argparse.Namespace, _overrides: dict[str, Any]) -> int:
    """Explain the topic."""
    topic = arguments.topic
    if topic is None or topic in COMMANDS:
        return main([*([topic] if topic else []), "--help"])
    if settings := settings_called(topic):
        print("\n\n".join(map(_explained, settings)))
    else:
        section = full_name(topic, sections=ALL_SECTIONS)
        show_table(settings_table(section), fits=True)
    return 0


def _explained(setting: Setting) -> str:
    where = f" of {', '.join(setting.of)}" if setting.of else ""
    lines = [f"{setting.name}{where}: {setting.meaning}", f"  values   {setting.values}"]
    if setting.unit:
        lines.append(f"  unit     {setting.unit}")
    default = as_yaml(setting.schema["default"]) if setting.has_default else "none: say which"
    return "\n".join([*lines, f"  default  {default}", f"  option   --{setting.name} VALUE"])
