"""``rankwise merge``: the full weights of a run, its change merged in, as ``export`` does it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from rankwise.cli import export_command

SECTIONS = ()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the run, and where its weights are written."""
    parser.add_argument("run", type=Path, help="the folder of a run")
    parser.add_argument("--output", type=Path, required=True, help="a new directory")
    parser.set_defaults(target="merged", rank=None, llama_cpp=None, check=None)


def run(arguments: argparse.Namespace, overrides: dict[str, Any]) -> int:
    """Write the weights and say how near they are to the run's model."""
    return export_command.run(arguments, overrides)
