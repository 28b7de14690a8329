"""Records for tests: each has what a test does not say itself."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from rankwise.comparison.analysis.choice import MethodSweep
from rankwise.comparison.analysis.contrast import Scored
from rankwise.comparison.records import Protocol, Summary, SummaryRow
from rankwise.comparison.report.comparison import Comparison
from rankwise.training.records import (
    CurvePoint,
    FailedRun,
    MethodIdentity,
    RunRecord,
    Seconds,
    TestResult,
)
from rankwise.training.settings.grid import GridPoint
from rankwise.training.settings.recipe import load_recipe


def method(name="lora", *, r=2, side=None, budget="300") -> MethodIdentity:
    return MethodIdentity(name=name, r=r, side=side, budget=budget)


def curve(*scores, first=0) -> tuple[CurvePoint, ...]:
    """A learning curve with ``scores`` every ten steps."""
    return tuple(
        CurvePoint(step=first + 10 * i, validation_loss=1 - score, validation_score=score)
        for i, score in enumerate(scores)
    )


@cache
def settings() -> dict:
    """Of a run with batches of 32 rows, two of them a step."""
    training = {"loop": "trainer", "batch_size": 32, "accumulation_steps": 2}
    return load_recipe("digits", {"training": training}).run().model_dump(mode="json")


def _head(of: MethodIdentity | str, rate: float, seed: int) -> dict:
    identity = method(of) if isinstance(of, str) else of.identity
    name = f"{identity.label}-{identity.budget}-{rate:g}-{seed}"
    return {
        "run": name,
        "method": identity,
        "seed": seed,
        "learning_rate": rate,
        "settings": settings(),
    }


def run(of="lora", score=0.5, *, rate=0.01, seed=0, **measured) -> RunRecord:
    """A finished run of a method, or of one of that name."""
    known = {
        "metric": "accuracy",
        "trainable_parameters": 100,
        "stored_bytes": 400,
        "score_validation": score,
        "curve": curve(score),
        "seconds": Seconds(init=0.5, train=2.0, total=3.0),
        "peak_memory_bytes": 10,
    }
    return RunRecord(**_head(of, rate, seed) | known | measured)


def failed_run(of="lora", *, rate=0.01, seed=0, error="the loss became nan") -> FailedRun:
    """A run that broke down."""
    return FailedRun(**_head(of, rate, seed), error=error, seconds=Seconds(total=1.0))


def row(name="lora", *, r=2, side=None, budget="300", **measured) -> SummaryRow:
    """A row of a summary, scored unless told otherwise."""
    known = {"score_mean": 0.5, "trainable_parameters": 100, "learning_rate": 0.1}
    return SummaryRow(name=name, r=r, side=side, budget=budget, **known | measured)


def failed_row(name="lora", *, error="the loss became nan", **identity) -> SummaryRow:
    """A row of a method of which nothing could be scored."""
    return row(
        name,
        status="failed",
        error=error,
        score_mean=None,
        trainable_parameters=None,
        learning_rate=None,
        **identity,
    )


def summary(rows: Sequence[SummaryRow], *, task="digits", baseline="lora", **known) -> Summary:
    """A summary of ``rows``."""
    varied = known.pop("varied", ())
    protocol = Protocol(baseline=baseline, varied=varied)
    return Summary(task=task, protocol=protocol, methods=tuple(rows), **known)


def comparison(rows: Sequence[SummaryRow], runs=(), **known) -> Comparison:
    """A comparison of ``rows`` that rests on ``runs``."""
    return Comparison(summary(rows, **known), runs)


def scored(rows: Sequence[SummaryRow], *, baseline="lora", looks=1) -> Scored:
    """The rows with runs and tests that say no more than their scores."""
    (method, *_) = load_recipe("digits").compare.methods
    sweeps = [
        MethodSweep(
            method,
            [GridPoint(0.1)],
            [run(row, rate=0.1, seed=i) for i in range(len(row.scores))],
        )
        for row in rows
    ]
    tests = {
        each.run: TestResult(run=each.run, score_test=score, scores={"accuracy": score})
        for row, sweep in zip(rows, sweeps, strict=True)
        for each, score in zip(sweep.records, row.scores, strict=True)
    }
    return Scored(rows, sweeps, tests, baseline, looks)
