"""``rankwise compare``: the whole comparison, with a table, a summary and a page at the end."""

from __future__ import annotations

import argparse
import math
import shlex
from typing import Any

import yaml
from rich.console import Console

from rankwise.cli.overrides import parse_variations
from rankwise.cli.progress import ProgressWatcher
from rankwise.cli.showing import show_summary
from rankwise.comparison.ablation import varied_methods
from rankwise.comparison.analysis.summary import summarise
from rankwise.comparison.engines.local import LocalEngine
from rankwise.comparison.engines.ray import RayEngine
from rankwise.comparison.folder import report_file, sole_use, summary_file, write_summary
from rankwise.comparison.grid import comparison_of
from rankwise.comparison.report.comparison import Comparison
from rankwise.comparison.report.page import write_report
from rankwise.comparison.sweep import read_test, sweep
from rankwise.core.errors import SettingsError
from rankwise.training.settings.recipe import Recipe, load_recipe


def run(arguments: argparse.Namespace, overrides: dict[str, Any]) -> int:
    """Sweep, choose on validation, read test, and write ``summary.json`` and ``report.html``."""
    recipe = _recipe(arguments, overrides)
    comparison_of(recipe)
    with sole_use(arguments.output):
        # Absolute, because a worker on another machine stands in a folder of its own.
        output = arguments.output.resolve()
        with _engine(arguments) as engine, ProgressWatcher(Console()) as watcher:
            sweeps = sweep(recipe, output, engine=engine, watcher=watcher)
            tests = read_test(sweeps, output, engine=engine)
        summary = summarise(
            recipe,
            sweeps,
            tests,
            command=_command(arguments, overrides),
            varied=list(parse_variations(arguments.vary)),
        )
        write_summary(arguments.output, summary)
        records = [record for method in sweeps for record in method.records]
        write_report(Comparison(summary, records), report_file(arguments.output))
    show_summary(summary, summary_file(arguments.output), report_file(arguments.output))
    return 0 if any(row.is_scored for row in summary.methods) else 1


def _recipe(arguments: argparse.Namespace, overrides: dict[str, Any]) -> Recipe:
    """Load the recipe; with ``--vary`` its methods are its own one under each of the values."""
    recipe = load_recipe(arguments.recipe, overrides, variant=arguments.variant)
    if not arguments.vary:
        return recipe
    methods = varied_methods(recipe.method.name, parse_variations(arguments.vary))
    rates = [recipe.training.learning_rate]
    comparison = ({} if recipe.compare else {"learning_rates": rates, "widenings": 0}) | (
        overrides.get("compare", {}) | {"methods": methods, "baseline": methods[0]["label"]}
    )
    varied = overrides | {"compare": comparison | {"budgets": None}}
    return load_recipe(arguments.recipe, varied, variant=arguments.variant)


def _engine(arguments: argparse.Namespace) -> LocalEngine | RayEngine:
    if arguments.engine == "ray":
        return RayEngine(arguments.output, address=arguments.address, workers=arguments.workers)
    if arguments.address is not None:
        raise SettingsError(f"--address {arguments.address} needs --engine ray")
    return LocalEngine(arguments.workers)


def _command(arguments: argparse.Namespace, overrides: dict[str, Any]) -> str:
    words = ["rankwise", "compare", arguments.recipe, "--output", str(arguments.output)]
    words += [f"--{arguments.variant}"] if arguments.variant else []
    words += [word for variation in arguments.vary for word in ("--vary", variation)]
    return shlex.join(words + _words(overrides, prefix="--"))


def _words(tree: dict[str, Any], prefix: str) -> list[str]:
    """Return the options that :func:`parse_overrides` reads as ``tree``."""
    words = []
    for key, value in tree.items():
        # A key with a dot in it, such as a layer's name, would be read as two.
        if isinstance(value, dict) and value and not any("." in str(inner) for inner in value):
            words += _words(value, f"{prefix}{key}.")
        else:
            words += [f"{prefix}{key}", _yaml(value)]
    return words


def _yaml(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=math.inf, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")
