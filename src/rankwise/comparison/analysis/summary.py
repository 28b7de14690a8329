"""What a comparison found: one row a method, and a verdict that claims no more than they allow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from rankwise.comparison.analysis.choice import MethodSweep, value_at
from rankwise.comparison.analysis.contrast import Scored, bounds_of, contrasted
from rankwise.comparison.analysis.equal_rank import equal_ranks
from rankwise.comparison.analysis.headline import headline
from rankwise.comparison.analysis.headroom import headroom
from rankwise.comparison.analysis.statistics import mean_interval
from rankwise.comparison.analysis.verdict import on_headroom, verdict
from rankwise.comparison.fronts import pareto_fronts
from rankwise.comparison.records import DroppedPoint, Protocol, Summary, SummaryRow
from rankwise.evaluation.own_metrics import find_metric
from rankwise.training.records import RetentionRecord, RunRecord, TestResult, identity_of
from rankwise.training.settings.comparison import ComparisonSettings
from rankwise.training.settings.grid import RATE, GridPoint
from rankwise.training.settings.recipe import Recipe

_INTERVAL = (
    "95 %, Student's t over seeds, cut to the range of the metric; differences are paired by seed, "
    "and the methods of a budget share the error of 5 % (Holm): the interval of each is at the "
    "confidence at which Holm decided of it; over rows too: two-way random effects of seeds and "
    "test rows"
)


def summarise(
    recipe: Recipe,
    sweeps: Sequence[MethodSweep],
    tests: Mapping[str, TestResult],
    *,
    retained: Mapping[str, RetentionRecord] | None = None,
    command: str,
    varied: Sequence[str] = (),
) -> Summary:
    """Return the summary: task, protocol, verdict, and one row a method in the recipe's order.

    ``retained`` is what the chosen runs have kept of the base, if that was measured; ``command``
    repeats the comparison, ``varied`` are the settings of an ablation.
    """
    comparison = recipe.compare
    assert comparison is not None
    baseline = comparison.baseline
    swept = comparison.swept_seeds
    retained = retained or {}
    table = [_row(method, tests, swept_seeds=swept, retained=retained) for method in sweeps]
    scored = Scored(table, sweeps, tests, baseline)
    rows, margins = contrasted(scored), headroom(scored)
    protocol = _protocol(recipe, comparison)
    return Summary(
        task=recipe.task.name,
        metric=next((run.metric for method in sweeps for run in method.best_runs()), ""),
        protocol=protocol.model_copy(update={"command": command, "varied": tuple(varied)}),
        headline=headline(rows, baseline=baseline),
        headroom=tuple(margins),
        verdict=(*on_headroom(margins, baseline=baseline), *verdict(rows, baseline=baseline)),
        methods=tuple(rows),
        equal_rank=tuple(equal_ranks(scored)),
        retention=next((each.measure for each in retained.values()), ""),
        fronts=pareto_fronts(rows),
        runs=tuple(record.run for method in sweeps for record in method.records),
    )


def _protocol(recipe: Recipe, comparison: ComparisonSettings) -> Protocol:
    return Protocol(
        learning_rates=comparison.learning_rates,
        sweep=comparison.sweep,
        swept_seeds=comparison.swept_seeds,
        widenings=comparison.widenings,
        seeds=comparison.seeds,
        baseline=comparison.baseline,
        interval=_INTERVAL,
        training=recipe.training.model_dump(mode="json", exclude={"learning_rate"}),
        task=recipe.task.model_dump(mode="json"),
    )


def _row(
    method: MethodSweep,
    tests: Mapping[str, TestResult],
    *,
    swept_seeds: Sequence[int],
    retained: Mapping[str, RetentionRecord],
) -> SummaryRow:
    row = SummaryRow(
        **identity_of(method.method).model_dump(),
        published=method.method.published,
        sweep_seconds=sum(record.seconds.total for record in method.records),
        **_tuning(method, swept_seeds),
    )
    best, runs = method.best(), method.best_runs()
    if best is None or not runs:
        error = method.failures()[0].error
        return row.model_copy(update={"status": "failed", "error": error})
    scores = tuple(tests[run.run].score_test for run in runs)
    metric = find_metric(runs[0].metric)
    interval = mean_interval(scores, within=(metric.low, metric.high))
    measured = {
        "trainable_parameters": runs[0].trainable_parameters,
        "stored_bytes": runs[0].stored_bytes,
        "learning_rate": runs[0].learning_rate,
        "score_validation": fmean(run.score_validation for run in runs),
        "score_mean": interval.mean,
        "score_low": interval.low,
        "score_high": interval.high,
        "scores": scores,
        "seeds": tuple(run.seed for run in runs),
        "init_seconds": fmean(run.seconds.init for run in runs),
        "train_seconds": fmean(run.seconds.train for run in runs),
        "peak_memory_bytes": max(run.peak_memory_bytes for run in runs),
        "settings": dict(best.others),
        "warnings": _warnings(method, best),
        **_forgetting(runs, retained),
    }
    return row.model_copy(update=measured)


def _forgetting(
    runs: Sequence[RunRecord], retained: Mapping[str, RetentionRecord]
) -> dict[str, Any]:
    """Return what the runs have forgotten; nothing unless it was measured of all."""
    found = [retained[run.run].forgetting for run in runs if run.run in retained]
    if len(found) < len(runs):
        return {}
    return bounds_of("forgetting", mean_interval(found))


def _tuning(method: MethodSweep, swept_seeds: Sequence[int]) -> dict[str, Any]:
    """Return what was tried of a method, and what trying has cost."""
    runs = [record for record in method.records if record.seed in swept_seeds]
    if len(method.points) < 2:
        runs = []
    return {
        "learning_rates": tuple(sorted({point.learning_rate for point in method.points})),
        "swept": {name: tuple(method.tried(name)) for name in method.names},
        "dropped": tuple(
            DroppedPoint(
                learning_rate=each.point.learning_rate,
                settings=dict(each.point.others),
                seeds=each.seeds,
                behind=each.behind,
                chance=each.chance,
            )
            for each in method.dropped
        ),
        "tuning_runs": len(runs),
        "tuning_seconds": sum(record.seconds.total for record in runs),
    }


def _warnings(method: MethodSweep, best: GridPoint) -> tuple[str, ...]:
    warnings = []
    for name in (RATE, *method.names):
        tried = method.tried(name, beside=best)
        numbers = [each for each in tried if isinstance(each, int | float)]
        value = value_at(best, name)
        if 1 < len(tried) == len(numbers) and value in (min(numbers), max(numbers)):
            told = "learning rate" if name == RATE else name
            warnings.append(f"the best {told} {value:g} is still at the edge of its grid")
    if failures := method.failures():
        warnings.append(f"{len(failures)} runs failed, the first: {failures[0].error}")
    return tuple(warnings)
