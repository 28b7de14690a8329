"""``rankwise show``: a recipe with every setting as it is used, as YAML that is a recipe again."""

from __future__ import annotations

import argparse
from typing import Any

from rankwise.cli.arguments import ALL_SECTIONS, add_recipe, add_variants
from rankwise.training.settings.recipe import load_recipe
from rankwise.training.settings.written import write_recipe

SECTIONS = ALL_SECTIONS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the recipe and its form."""
    add_recipe(parser)
    add_variants(parser)


def run(arguments: argparse.Namespace, overrides: dict[str, Any]) -> int:
    """Print the recipe with every setting filled in."""
    recipe = load_recipe(arguments.recipe, overrides, variant=arguments.variant)
    print(f"# {arguments.recipe}, with every setting as it is used.")
    print(write_recipe(recipe), end="")
    return 0
