"""``rankwise doctor``: what a run will meet, seen on one batch before it begins."""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table

from rankwise.cli.arguments import RUN_SECTIONS, add_recipe
from rankwise.cli.showing import add_columns, add_row, say, show_table
from rankwise.comparison.grid import examined_runs
from rankwise.core.errors import RankwiseError
from rankwise.training.folder import RunFolder
from rankwise.training.settings.method import MethodSettings
from rankwise.training.settings.recipe import load_recipe
from rankwise.training.settings.run import RunSettings

if TYPE_CHECKING:
    from rankwise.training.probes.doctor import Findings

SECTIONS = (*RUN_SECTIONS, "compare")
_COLUMNS = (
    "trained",
    "captured",
    "‖ΔW₀‖/‖W‖",
    "jump",
    "outputs",
    "gradient",
    "memory MB",
    "init s",
    "run s",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the recipe, and how much is shown in which form."""
    add_recipe(parser)
    parser.add_argument("--layers", action="store_true", help="also by layer")
    parser.add_argument("--json", action="store_true", help="JSON instead of a table")


def run(arguments: argparse.Namespace, overrides: dict[str, Any]) -> int:
    """Examine a run of each method of the recipe; print a table, or JSON.

    Who names a method, or changes it, asks for the run that ``rankwise train`` would make of it.
    """
    recipe = load_recipe(arguments.recipe, overrides)
    runs = [recipe.run()] if "method" in overrides else examined_runs(recipe)
    with tempfile.TemporaryDirectory() as folder:
        seen = [(run.method, _examined(run, Path(folder))) for run in runs]
    if arguments.json:
        print(json.dumps([_plain(method, found) for method, found in seen], indent=2))
    else:
        _show(seen, runs, is_by_layer=arguments.layers)
    return 0


def _examined(run: RunSettings, folder: Path) -> Findings | str:
    """Examine one run; what stops it is told in its place, and the others go on."""
    from rankwise.training.probes.doctor import examine

    try:
        return examine(run, RunFolder.below(folder, run.name))
    except RankwiseError as error:
        return str(error)
    except Exception as error:
        # PEFT and torch have no errors of their own for a config that they cannot carry.
        if run.method.adapter.kind != "peft":
            raise
        return f"{type(error).__name__}: {error}"


def _plain(method: MethodSettings, found: Findings | str) -> dict[str, Any]:
    if isinstance(found, str):
        return {"name": method.title, "r": method.rank, "budget": method.budget, "error": found}
    return {**asdict(found), "error": None}


def _show(
    seen: list[tuple[MethodSettings, Findings | str]],
    runs: list[RunSettings],
    *,
    is_by_layer: bool,
) -> None:
    table = Table(
        title=f"{runs[0].task.name}: one batch, one step at {runs[0].training.learning_rate:g}",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    add_columns(table, ("method", "r", *_COLUMNS), texts=("method",), no_wrap=True)
    remarks = []
    for method, found in seen:
        name = f"{method.title} (r={method.rank})" if method.rank else method.title
        if isinstance(found, str):
            remarks.append(f"{name} cannot begin: {found}")
            continue
        remarks += [f"{name}: {warning}" for warning in found.warnings]
        add_row(table, found.name, "–" if found.r is None else str(found.r), *_cells(found))
        for layer in found.layers if is_by_layer else ():
            shares = (
                _percent(layer.captured_share),
                _percent(layer.relative_norm),
                _percent(layer.jump),
            )
            table.add_row(f"  {layer.name}", "", "", *shares)
    show_table(table)
    say(*remarks or ["nothing to warn of"])


def _cells(found: Findings) -> list[str]:
    return [
        f"{found.trainable_parameters:,}",
        _percent(found.captured_share),
        _percent(found.relative_norm),
        _percent(found.jump),
        _percent(found.output_change),
        f"{found.gradient_norm:.2g}",
        f"{found.peak_memory_bytes / 1e6:,.0f}",
        f"{found.init_seconds:.2f}",
        f"{found.expected_seconds:,.1f}",
    ]


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.2%}"
