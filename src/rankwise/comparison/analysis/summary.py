"""What a comparison found: one row a method, and a verdict that claims no more than they allow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from rankwise.comparison.analysis.choice import MethodSweep
from rankwise.comparison.analysis.contrast import Scored, contrasted
from rankwise.comparison.analysis.equal_rank import equal_ranks
from rankwise.comparison.analysis.headline import headline
from rankwise.comparison.analysis.headroom import headroom
from rankwise.comparison.analysis.statistics import mean_interval
from rankwise.comparison.analysis.verdict import on_headroom, verdict
from rankwise.evaluation.metrics import METRICS
from rankwise.training.records import Protocol, Summary, SummaryRow, TestResult, identity_of
from rankwise.training.settings.comparison import ComparisonSettings
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
    command: str,
    varied: Sequence[str] = (),
) -> Summary:
    """Return the summary: task, protocol, verdict, and one row a method in the recipe's order.

    ``command`` is what repeats the comparison, ``varied`` the settings of an ablation.
    """
    comparison = recipe.compare
    assert comparison is not None
    baseline = comparison.baseline
    scored = Scored([_row(method, tests) for method in sweeps], sweeps, tests, baseline)
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
        runs=tuple(record.run for method in sweeps for record in method.records),
    )


def _protocol(recipe: Recipe, comparison: ComparisonSettings) -> Protocol:
    return Protocol(
        learning_rates=comparison.learning_rates,
        widenings=comparison.widenings,
        seeds=comparison.seeds,
        baseline=comparison.baseline,
        interval=_INTERVAL,
        training=recipe.training.model_dump(mode="json", exclude={"learning_rate"}),
        task=recipe.task.model_dump(mode="json"),
    )


def _row(method: MethodSweep, tests: Mapping[str, TestResult]) -> SummaryRow:
    row = SummaryRow(
        **identity_of(method.method).model_dump(),
        published=method.method.published,
        sweep_seconds=sum(record.seconds.total for record in method.records),
        learning_rates=tuple(sorted(method.rates)),
    )
    runs = method.best_runs()
    if not runs:
        error = method.failures()[0].error
        return row.model_copy(update={"status": "failed", "error": error})
    scores = tuple(tests[run.run].score_test for run in runs)
    metric = METRICS[runs[0].metric]
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
        "warnings": _warnings(method, runs[0].learning_rate),
    }
    return row.model_copy(update=measured)


def _warnings(method: MethodSweep, best: float) -> tuple[str, ...]:
    warnings = []
    if len(method.rates) > 1 and best in (min(method.rates), max(method.rates)):
        warnings.append(f"the best learning rate {best:g} is still at the edge of its grid")
    if failures := method.failures():
        warnings.append(f"{len(failures)} runs failed, the first: {failures[0].error}")
    return tuple(warnings)
