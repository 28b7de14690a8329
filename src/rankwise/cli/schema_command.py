"""``rankwise schema``: a JSON Schema by which editors complete and check recipes."""

from __future__ import annotations

import argparse
import json
from typing import Any

from rankwise.training.settings.schema import recipe_schema

SECTIONS = ()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say how an editor is told of the schema."""
    parser.description = (
        "Print the JSON Schema of recipes. An editor with a YAML language server uses it in a "
        "recipe that begins with `# yaml-language-server: $schema=recipe.schema.json`."
    )
    parser.epilog = "rankwise schema > recipe.schema.json"


def run(_arguments: argparse.Namespace, _overrides: dict[str, Any]) -> int:
    """Print the schema."""
    print(json.dumps(recipe_schema(), indent=2, ensure_ascii=False))
    return 0
