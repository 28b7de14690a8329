"""``rankwise power``: how often comparisons err, and which differences they find, as two tables."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from rich import box
from rich.table import Table

from rankwise.cli.arguments import positive
from rankwise.cli.showing import add_columns, add_row, say, show_table
from rankwise.core.errors import SettingsError

SECTIONS = ()
SEEDS = (3, 5, 10, 20)
METHODS = (1, 5, 10)
EFFECTS = (0.5, 1.0, 1.5, 2.0, 3.0)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare for how many seeds and methods."""
    parser.add_argument(
        "--seeds", type=positive, nargs="+", default=SEEDS, help=f"(default: {_words(SEEDS)})"
    )
    parser.add_argument(
        "--methods",
        type=positive,
        nargs="+",
        default=METHODS,
        help=f"compared in one budget, beside the baseline (default: {_words(METHODS)})",
    )
    parser.add_argument(
        "--comparisons", type=positive, default=400, help="that are simulated (default: 400)"
    )


def run(arguments: argparse.Namespace, _overrides: dict[str, Any]) -> int:
    """Simulate comparisons, and print their errors and what they find."""
    if min(arguments.seeds) < 2:
        raise SettingsError(
            f"--seeds must be at least 2, got {min(arguments.seeds)}: one seed has no interval"
        )
    show_table(_errors(arguments.seeds, arguments.methods, arguments.comparisons))
    show_table(_power(arguments.seeds, arguments.methods))
    say(
        "A difference is counted in standard deviations of one score over seeds, as a comparison "
        "prints them; paired differences of independent scores vary by the root of two more."
    )
    return 0


def _errors(seeds: Sequence[int], methods: Sequence[int], comparisons: int) -> Table:
    """Return the A/A table: comparisons of equal methods in which one is called different."""
    from rankwise.comparison.analysis.significance import ERROR  # needs SciPy
    from rankwise.comparison.analysis.simulation import simulated_rates

    chance = 200 * (ERROR * (1 - ERROR) / comparisons) ** 0.5
    title = (
        f"A/A: told apart though equal, of {comparisons} comparisons (promised: at most "
        f"{100 * ERROR:g} %, ± {chance:.1f} by chance)"
    )
    table = _table(title, methods)
    for count in seeds:
        rates = [
            simulated_rates(seeds=count, methods=each, effect=0.0, comparisons=comparisons)
            for each in methods
        ]
        add_row(table, str(count), *(f"{100 * each.false_alarms:.1f} %" for each in rates))
    return table


def _power(seeds: Sequence[int], methods: Sequence[int]) -> Table:
    """Return by seeds and methods the chance to find one true difference of each size."""
    from rankwise.comparison.analysis.power import power  # needs SciPy
    from rankwise.comparison.analysis.significance import ERROR

    table = Table(title="Power: the chance to find a true difference", box=box.SIMPLE_HEAD)
    sizes = [f"{effect:g} sd" for effect in EFFECTS]
    add_columns(table, ["seeds", "methods", *sizes], texts=())
    for count in seeds:
        for each in methods:
            # Of independent scores the difference varies by √2; Holm's first step takes error / n.
            chances = [power(effect / 2**0.5, count, error=ERROR / each) for effect in EFFECTS]
            add_row(table, str(count), str(each), *(f"{100 * it:.0f} %" for it in chances))
    return table


def _table(title: str, methods: Sequence[int]) -> Table:
    table = Table(title=title, box=box.SIMPLE_HEAD)
    headings = [f"{each} method{'s' if each > 1 else ''}" for each in methods]
    add_columns(table, ["seeds", *headings], texts=())
    return table


def _words(numbers: Sequence[int]) -> str:
    return " ".join(map(str, numbers))
