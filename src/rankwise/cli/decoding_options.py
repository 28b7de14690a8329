"""The options of the commands that let a model write: how long, and how a token is chosen."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from rankwise.cli.arguments import positive
from rankwise.core.errors import SettingsError

if TYPE_CHECKING:
    from rankwise.evaluation.generation import Decoding


def add_decoding(parser: argparse.ArgumentParser) -> None:
    """Declare the run, and how it writes."""
    parser.add_argument(
        "run", type=Path, help="the folder of a run, OUTPUT/runs/NAME, or an adapter directory"
    )
    parser.add_argument(
        "--max-new-tokens", type=positive, default=128, help="the longest answer (default: 128)"
    )
    parser.add_argument(
        "--temperature", type=float, help="sample at this temperature (default: the likeliest)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of sampling (default: 0)")


def check_decoding(arguments: argparse.Namespace) -> None:
    """Refuse a temperature that is none, before a model is loaded.

    Raises:
        SettingsError: It is not above 0.
    """
    temperature = arguments.temperature
    if temperature is not None and not 0 < temperature < float("inf"):
        raise SettingsError(
            f"--temperature must be above 0, got {temperature}: leave it out for the likeliest text"
        )


def decoding_of(arguments: argparse.Namespace) -> Decoding:
    """Return what the options say."""
    from rankwise.evaluation.generation import Decoding

    return Decoding(
        arguments.max_new_tokens, temperature=arguments.temperature, seed=arguments.seed
    )
