"""``rankwise init``: the initialization alone, for any trainer."""

from __future__ import annotations

import argparse
from typing import Any

from rich.console import Console

from rankwise.training.initial_adapter import write_initial_adapter
from rankwise.training.settings.recipe import load_recipe


def run(arguments: argparse.Namespace, overrides: dict[str, Any]) -> int:
    """Write the adapter directory and say how to train on it."""
    settings = load_recipe(arguments.recipe, overrides).run()
    write_initial_adapter(settings, arguments.output)
    Console(highlight=False, soft_wrap=True).print(
        f"written: {arguments.output}, read back and compared; train on it with "
        f"PeftModel.from_pretrained(base, {str(arguments.output)!r}, is_trainable=True)"
    )
    return 0
