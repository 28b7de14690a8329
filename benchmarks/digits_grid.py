"""How long the base grid of ``rankwise compare digits`` takes, against its limit of three minutes.

    python benchmarks/digits_grid.py

The grid is the shipped one without widening: methods × 5 learning rates × 3 seeds on all cores.
Beside the wall-clock time it prints the ratio to the time that the same optimizer steps take on the
bare network, without adapters: what adapters, chains and evaluations cost.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import torch

from rankwise.comparison.analysis.choice import MethodSweep
from rankwise.comparison.engines.local import LocalEngine
from rankwise.comparison.sweep import sweep
from rankwise.training.build import build_task
from rankwise.training.settings.recipe import load_recipe
from rankwise.training.settings.run import Recipe

LIMIT_SECONDS = 180


class Silent:
    """A watcher that watches nothing."""

    def plan(self, runs: int) -> None: ...

    def done(self, record: dict[str, object]) -> None: ...


def main() -> None:
    """Run the grid in a temporary folder and print one line."""
    recipe = load_recipe("digits", {"compare": {"widenings": 0}})
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        with LocalEngine() as engine:
            sweeps = sweep(recipe, Path(folder), engine=engine, watcher=Silent())
        seconds = time.perf_counter() - begun
        bare = _bare_seconds(recipe, sweeps, Path(folder) / "base")
    runs = sum(len(method.records) for method in sweeps)
    print(
        f"{runs} runs in {seconds:.0f} s on {os.cpu_count()} cores "
        f"(limit {LIMIT_SECONDS} s: {'met' if seconds <= LIMIT_SECONDS else 'MISSED'}), "
        f"{seconds / bare:.1f} times the bare steps"
    )


def _bare_seconds(recipe: Recipe, sweeps: list[MethodSweep], base: Path) -> float:
    """Time one run's steps on the bare network, and scale them to the grid on all cores."""
    torch.set_num_threads(1)
    task = build_task(recipe.task)
    model, rows = task.base_model(base), task.splits().train
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    begun = time.perf_counter()
    for _ in range(recipe.training.epochs):
        for index in torch.randperm(len(rows)).split(recipe.training.batch_size):
            model(**rows.take(index))["loss"].backward()
            optimizer.step()
            optimizer.zero_grad()
    one_run = time.perf_counter() - begun
    return one_run * sum(len(method.records) for method in sweeps) / (os.cpu_count() or 1)


if __name__ == "__main__":
    main()
