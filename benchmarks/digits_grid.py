"""How long the base grid of ``rankwise compare digits`` takes, against its limit of three minutes.

    python benchmarks/digits_grid.py [--tiny]

The runs are those of the shipped recipe without widening, on all cores: grids race on the seeds
that sweep, then each chosen point runs on all seeds.
Beside the wall-clock time stands what the same optimizer steps take on the bare network, without
adapters, and how many times that is: what adapters, chains and evaluations cost.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from measuring import Row, print_rows, read_options, verdict_of

from rankwise.comparison.engines.local import LocalEngine
from rankwise.comparison.sweep import sweep
from rankwise.core.cores import usable_cores
from rankwise.training.build import build_task
from rankwise.training.settings.recipe import Recipe, load_recipe

LIMIT_SECONDS = 180


TINY = {
    "task": {"pretrain_epochs": 1},
    "training": {"epochs": 1, "batch_size": 256},
    "compare": {"methods": [{"name": "lora", "r": 2}], "learning_rates": [1e-3], "seeds": [0]},
}


class Silent:
    """A watcher that watches nothing."""

    def plan(self, runs: int) -> None: ...

    def done(self, record: Any) -> None: ...

    def widened(self, method: str, rate: float) -> None: ...


def main(words: Sequence[str] | None = None) -> None:
    """Run the grid in a temporary folder and print one line."""
    options = read_options(words, 1)
    settings = TINY if options.is_tiny else {}
    settings = settings | {"compare": {"widenings": 0, **settings.get("compare", {})}}
    recipe = load_recipe("digits", settings)
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        with LocalEngine(1 if options.is_tiny else None) as engine:
            sweeps = sweep(recipe, Path(folder), engine=engine, watcher=Silent())
        seconds = time.perf_counter() - begun
        runs = sum(len(method.records) for method in sweeps)
        bare = _bare_seconds(recipe, Path(folder) / "base") * runs / usable_cores()
    met = verdict_of(seconds, LIMIT_SECONDS)
    value, times = f"{seconds:.0f} s", f"{seconds / bare:.1f} times the bare steps"
    what, target = f"{runs} runs on {usable_cores()} cores", f"≤ {LIMIT_SECONDS} s"
    print_rows("digits", [Row(what, value, "-", f"{bare:.0f} s", times, target, met)])


def _bare_seconds(recipe: Recipe, base: Path) -> float:
    """Time one run's steps on the bare network."""
    torch.set_num_threads(1)
    task = build_task(recipe.run())
    model, rows = task.base_model(base), task.splits().train
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    begun = time.perf_counter()
    for _ in range(recipe.training.epochs):
        for index in torch.randperm(len(rows)).split(recipe.training.batch_size):
            model(**rows.take(index))["loss"].backward()
            optimizer.step()
            optimizer.zero_grad()
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
