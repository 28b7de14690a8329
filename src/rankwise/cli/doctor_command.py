"""``rankwise doctor``: what a run will meet, seen on one batch before it begins."""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from rankwise.cli.showing import add_columns, show_table
from rankwise.core.errors import RankwiseError
from rankwise.training.folder import RunFolder
from rankwise.training.probes.doctor import Findings, examine
from rankwise.training.settings.method import MethodSettings
from rankwise.training.settings.recipe import Recipe, load_recipe
from rankwise.training.settings.run import RunSettings

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


def run(arguments: argparse.Namespace, overrides: dict[str, Any]) -> int:
    """Examine each method of the recipe at its learning rate; print a table, or JSON."""
    recipe = load_recipe(arguments.recipe, overrides)
    methods = recipe.compare.chosen_methods if recipe.compare else (recipe.method,)
    with tempfile.TemporaryDirectory() as folder:
        seen = [(method, _examined(recipe, method, Path(folder))) for method in methods]
    if arguments.json:
        print(json.dumps([_plain(method, found) for method, found in seen], indent=2))
    else:
        _show(seen, recipe, is_by_layer=arguments.layers)
    return 0


def _examined(recipe: Recipe, method: MethodSettings, folder: Path) -> Findings | str:
    """Examine one method; what stops it is told in its place, and the others go on."""
    settings = RunSettings(
        task=recipe.task, method=method, training=recipe.training, seed=recipe.seed
    )
    try:
        return examine(settings, RunFolder.below(folder, settings.name))
    except RankwiseError as error:
        return str(error)
    except Exception as error:  # of PEFT or torch, for a config that they cannot carry
        return f"{type(error).__name__}: {error}"


def _plain(method: MethodSettings, found: Findings | str) -> dict[str, Any]:
    if isinstance(found, Findings):
        return {**asdict(found), "error": None}
    return {"name": method.title, "r": method.rank, "budget": method.budget, "error": found}


def _show(
    seen: list[tuple[MethodSettings, Findings | str]],
    recipe: Recipe,
    *,
    is_by_layer: bool,
) -> None:
    table = Table(
        title=f"{recipe.task.name}: one batch, one step at {recipe.training.learning_rate:g}",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    add_columns(table, ("method", "r", *_COLUMNS), texts=("method",), no_wrap=True)
    remarks = []
    for method, found in seen:
        name = f"{method.title} (r={method.rank})" if method.rank else method.title
        if not isinstance(found, Findings):
            remarks.append(f"{name} cannot begin: {found}")
            continue
        remarks += [f"{name}: {warning}" for warning in found.warnings]
        table.add_row(found.name, "–" if found.r is None else str(found.r), *_cells(found))
        for layer in found.layers if is_by_layer else ():
            shares = (
                _percent(layer.captured_share),
                _percent(layer.relative_norm),
                _percent(layer.jump),
            )
            table.add_row(f"  {layer.name}", "", "", *shares)
    show_table(table)
    console = Console(highlight=False, soft_wrap=True)
    for remark in remarks:
        console.print(remark, markup=False)
    if not remarks:
        console.print("nothing to warn of")


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
