"""What a comparison found: one row a method, and a verdict that claims no more than they allow."""

from __future__ import annotations

import math
from statistics import fmean
from typing import Any

from rankwise.comparison.choice import MethodSweep
from rankwise.comparison.statistics import mean_interval, paired_difference
from rankwise.training.settings import ComparisonSettings, Recipe

Record = dict[str, Any]

RANGES = {"accuracy": (0.0, 1.0)}
"""The values that the mean of a metric can have."""

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
    "difference_mean",
    "difference_low",
    "difference_high",
)


def summarise(
    recipe: Recipe, sweeps: list[MethodSweep], tests: dict[str, Record], *, command: str
) -> Record:
    """Return the summary: task, protocol, verdict, and one row a method in the recipe's order."""
    comparison = recipe.compare
    assert comparison is not None
    rows = [_row(method, tests) for method in sweeps]
    _add_baseline_columns(rows, sweeps, comparison.baseline)
    return {
        "task": recipe.task.name,
        "protocol": _protocol(recipe, comparison) | {"command": command},
        "verdict": verdict(rows, baseline=comparison.baseline),
        "methods": rows,
        "runs": [record["run"] for method in sweeps for record in method.records],
    }


def verdict(rows: list[Record], *, baseline: str) -> list[str]:
    """Say for each budget which differences from the baseline are shown, and which are not.

    A difference is shown if its interval leaves out zero; the intervals of one budget share the
    error of 5 %.
    """
    sentences = []
    for budget in dict.fromkeys(row["budget"] for row in rows):
        compared = [
            row for row in rows if row["budget"] == budget and row["difference_low"] is not None
        ]
        if not compared:
            continue
        better = [_called(row, compared) for row in compared if row["difference_low"] > 0]
        worse = [_called(row, compared) for row in compared if row["difference_high"] < 0]
        sentences.append(
            f"Budget {budget}, against {baseline}: shown better: {_listed(better)}; shown worse: "
            f"{_listed(worse)}; no difference shown for {len(compared) - len(better) - len(worse)} "
            f"of {len(compared)} methods."
        )
    return sentences or ["No method could be compared with the baseline on more than one seed."]


def _called(row: Record, rows: list[Record]) -> str:
    """Return a row's name, with its side where others of the same name have another one."""
    sides = {other["side"] for other in rows if other["name"] == row["name"]}
    return row["name"] if len(sides) == 1 else f"{row['name']} ({row['side']})"


def _listed(names: list[str]) -> str:
    return ", ".join(names) or "none"


def _protocol(recipe: Recipe, comparison: ComparisonSettings) -> Record:
    return {
        "learning_rates": list(comparison.learning_rates),
        "widenings": comparison.widenings,
        "seeds": list(comparison.seeds),
        "baseline": comparison.baseline,
        "chosen_on": "validation",
        "interval": "95 %, Student's t over seeds, cut to the range of the metric; differences are "
        "paired by seed, Bonferroni",
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
    interval = mean_interval(scores, within=RANGES[records[0]["metric"]])
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


def _add_baseline_columns(rows: list[Record], sweeps: list[MethodSweep], baseline: str) -> None:
    """Measure each row against the baseline of its budget, or else the nearest in parameters."""
    scored = [i for i, row in enumerate(rows) if row["status"] == "ok"]
    bases = [i for i in scored if rows[i]["name"] == baseline]
    for i in scored:
        same = [base for base in bases if rows[base]["budget"] == rows[i]["budget"]]
        base = min(same or bases, key=lambda base: _distance(rows[base], rows[i]), default=None)
        if base is None:
            continue
        rows[i]["steps_to_baseline"] = _steps_to(sweeps[i], _final_score(sweeps[base]))
        if rows[i]["name"] == baseline:
            continue
        peers = sum(rows[j]["budget"] == rows[i]["budget"] for j in scored if j not in bases)
        difference = paired_difference(rows[i]["scores"], rows[base]["scores"], comparisons=peers)
        rows[i]["difference_mean"] = difference.mean
        rows[i]["difference_low"] = difference.low
        rows[i]["difference_high"] = difference.high


def _distance(base: Record, row: Record) -> float:
    return abs(math.log(base["trainable_parameters"] / row["trainable_parameters"]))


def _final_score(method: MethodSweep) -> float:
    return _mean_curve(method)[-1][1]


def _steps_to(method: MethodSweep, score: float) -> int | None:
    """Return the first step at which the mean validation curve reaches ``score``."""
    return next((step for step, mean in _mean_curve(method) if mean >= score), None)


def _mean_curve(method: MethodSweep) -> list[tuple[int, float]]:
    best = method.best()
    assert best is not None
    curves = [record["curve"] for record in method.of_rate(best)]
    return [
        (points[0]["step"], fmean(point["validation_score"] for point in points))
        for points in zip(*curves, strict=True)
    ]
