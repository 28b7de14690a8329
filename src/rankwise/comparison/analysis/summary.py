"""What a comparison found: one row a method, and a verdict that claims no more than they allow."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from rankwise.comparison.analysis.choice import MethodSweep
from rankwise.comparison.analysis.contrast import add_contrasts
from rankwise.comparison.analysis.equal_rank import equal_ranks
from rankwise.comparison.analysis.statistics import mean_interval
from rankwise.comparison.analysis.verdict import verdict
from rankwise.evaluation.metrics import METRICS
from rankwise.training.settings.run import ComparisonSettings, Recipe

Record = dict[str, Any]

_MEASURED = (
    "trainable_parameters",
    "stored_bytes",
    "learning_rate",
    "score_validation",
    "score_mean",
    "score_low",
    "score_high",
    "init_seconds",
    "train_seconds",
    "peak_memory_bytes",
    "steps_to_baseline",
    "samples_to_baseline",
    "seconds_to_baseline",
    "difference_mean",
    "difference_low",
    "difference_high",
    "difference_rows_mean",
    "difference_rows_low",
    "difference_rows_high",
)


def summarise(
    recipe: Recipe,
    sweeps: list[MethodSweep],
    tests: dict[str, Record],
    *,
    command: str,
    varied: Sequence[str] = (),
) -> Record:
    """Return the summary: task, protocol, verdict, and one row a method in the recipe's order.

    ``command`` is what repeats the comparison, ``varied`` the settings of an ablation.
    """
    comparison = recipe.compare
    assert comparison is not None
    rows = [_row(method, tests) for method in sweeps]
    add_contrasts(rows, sweeps, tests, baseline=comparison.baseline)
    ranks = equal_ranks(rows, baseline=comparison.baseline)
    return {
        "task": recipe.task.name,
        "protocol": _protocol(recipe, comparison) | {"command": command, "varied": list(varied)},
        "verdict": verdict(rows, baseline=comparison.baseline),
        "methods": rows,
        "equal_rank": ranks,
        "runs": [record["run"] for method in sweeps for record in method.records],
    }


def _protocol(recipe: Recipe, comparison: ComparisonSettings) -> Record:
    return {
        "learning_rates": list(comparison.learning_rates),
        "widenings": comparison.widenings,
        "seeds": list(comparison.seeds),
        "baseline": comparison.baseline,
        "chosen_on": "validation",
        "interval": "95 %, Student's t over seeds, cut to the range of the metric; differences are "
        "paired by seed, Bonferroni; over rows too: two-way random effects of seeds and test rows",
        "training": recipe.training.model_dump(mode="json", exclude={"learning_rate"}),
        "task": recipe.task.model_dump(mode="json"),
    }


def _row(method: MethodSweep, tests: dict[str, Record]) -> Record:
    row = {
        "name": method.method.title,
        "r": method.method.rank,
        "side": method.method.side,
        "budget": method.method.budget,
        "published": method.method.published,
        "sweep_seconds": sum(record["seconds"]["total"] for record in method.records),
        "learning_rates": sorted(method.rates),
    } | dict.fromkeys(_MEASURED)
    best = method.best()
    if best is None:
        reason = method.failures()[0]["error"]
        return row | {"status": f"failed: {reason}", "scores": [], "seeds": [], "warnings": []}
    records = method.of_rate(best)
    scores = [tests[record["run"]]["score_test"] for record in records]
    metric = METRICS[records[0]["metric"]]
    interval = mean_interval(scores, within=(metric.low, metric.high))
    return row | {
        "status": "ok",
        "trainable_parameters": records[0]["trainable_parameters"],
        "stored_bytes": records[0]["stored_bytes"],
        "learning_rate": best,
        "score_validation": fmean(record["score_validation"] for record in records),
        "score_mean": interval.mean,
        "score_low": interval.low,
        "score_high": interval.high,
        "scores": scores,
        "seeds": [record["seed"] for record in records],
        "init_seconds": fmean(record["seconds"]["init"] for record in records),
        "train_seconds": fmean(record["seconds"]["train"] for record in records),
        "peak_memory_bytes": max(record["peak_memory_bytes"] for record in records),
        "warnings": _warnings(method, best),
    }


def _warnings(method: MethodSweep, best: float) -> list[str]:
    warnings = []
    if len(method.rates) > 1 and best in (min(method.rates), max(method.rates)):
        warnings.append(f"the best learning rate {best:g} is still at the edge of its grid")
    if failures := method.failures():
        warnings.append(f"{len(failures)} runs failed, the first: {failures[0]['error']}")
    return warnings
