"""How much less a run of ``rankwise compare digits`` costs in lockstep with others than alone.

    python benchmarks/lockstep.py [--tiny]

For one method of each kind: its runs at the recipe's shared learning rates, on the seeds that
sweep, from building to saving in one call, against the same runs one after another, of which three
are timed. The last row is all of these methods together.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from measuring import (
    Options,
    Ratio,
    Row,
    Target,
    Turn,
    print_rows,
    read_options,
    repeat_until_decided,
)
from measuring import seconds as seconds_of

from rankwise.training.build import build_task
from rankwise.training.run import run_and_record
from rankwise.training.settings.grid import GridPoint
from rankwise.training.settings.recipe import Recipe, load_recipe
from rankwise.training.settings.run import RunSettings
from rankwise.training.together import run_all_and_record

AT_MOST = 0.2
METHODS = ("full", "lora", "rac-lora", "abm-lora", "lora-sb", "delora")
TINY: dict[str, Any] = {
    "task": {"pretrain_epochs": 1},
    "training": {"epochs": 1, "batch_size": 256},
}
ALONE = 3


def main(words: Sequence[str] | None = None) -> None:
    """Time the methods and print a line for each."""
    options = read_options(words, 1)
    recipe = load_recipe("digits", TINY if options.is_tiny else {})
    names = METHODS[:1] if options.is_tiny else METHODS
    rows, turns = [], []
    for name in names:
        found = repeat_until_decided(partial(_turn, recipe, name, options), options, [])
        turns += found
        rows.append(_row(name, found))
    print_rows("lockstep", [*rows, _row("together", [_sum(turns)])])


def _turn(recipe: Recipe, name: str, options: Options) -> dict[str, float]:
    """Return the processor seconds a run, in lockstep and alone."""
    assert recipe.compare is not None
    method = next(each for each in recipe.compare.methods if each.name == name)
    rates = [1e-2] if options.is_tiny else [3e-4, 1e-3, 3e-3, 1e-2, 3e-2]
    runs = [
        method.run(recipe.run(), at=GridPoint(rate), seed=seed)
        for rate in rates
        for seed in range(3)
    ]
    return {
        "lockstep": _seconds_a_run(runs, together=True),
        "alone": _seconds_a_run(runs[:: max(len(runs) // ALONE, 1)], together=False),
    }


def _seconds_a_run(runs: Sequence[RunSettings], *, together: bool) -> float:
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder)
        build_task(runs[0]).base_model(output / "base")
        if together:
            return seconds_of(partial(run_all_and_record, runs, output)) / len(runs)
        return sum(seconds_of(partial(run_and_record, run, output)) for run in runs) / len(runs)


def _sum(turns: Sequence[Turn]) -> dict[str, float]:
    return {key: sum(turn[key] for turn in turns) for key in ("lockstep", "alone")}


def _row(what: str, turns: Sequence[Turn]) -> Row:
    target = Target(lambda turn: turn["lockstep"] / turn["alone"], AT_MOST)
    ratio: Ratio = target.ratio(turns)
    ours, alone = (sum(turn[key] for turn in turns) / len(turns) for key in ("lockstep", "alone"))
    return Row(
        f"a run of {what}",
        f"{1000 * ours:.0f} ms",
        f"{1000 * alone:.0f} ms alone",
        "-",
        str(ratio),
        str(target),
        target.verdict(turns),
    )


if __name__ == "__main__":
    main()
