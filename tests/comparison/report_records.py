"""A comparison as it might have come out on the digits: its summary and the records of its runs.

The numbers are made up, by formula, so that every case of the report occurs: budgets of several
rows and of one, a learning rate at which a method fails, a row all of whose runs failed, warnings.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import replace
from statistics import fmean

from rankwise.comparison.records import Protocol, Summary, SummaryRow
from rankwise.comparison.report.comparison import Comparison, Run
from rankwise.methods.inits.report import LayerStart
from rankwise.training.records import (
    CurvePoint,
    DiagnosticPoint,
    InitializationRecord,
    MethodIdentity,
    RunRecord,
)
from tests.comparison import made_records as made

LEARNING_RATES = (0.001, 0.003, 0.01, 0.03, 0.1)
SEEDS = (0, 1, 2)
STEPS = 600

# name, r, side, budget, trainable parameters, final score, logarithm of the best learning rate
METHODS = [
    ("full", None, None, "full", 4810, 0.943, -2.6),
    ("lora", 1, None, "300", 302, 0.842, -1.9),
    ("lora", 4, None, "1200", 1208, 0.905, -2.0),
    ("asymm-lora", 1, "left", "papers", 170, 0.758, -1.6),
    ("asymm-lora", 2, "left", "300", 340, 0.812, -1.6),
    ("asymm-lora", 6, "left", "1200", 1020, 0.884, -1.7),
    ("cola", 1, "both", "300", 302, 0.866, -1.9),
    ("cola", 4, "both", "1200", 1208, 0.917, -2.1),
    ("rac-lora", 1, "left", "papers", 170, 0.839, -1.6),
    ("rac-lora", 2, "left", "300", 340, 0.871, -1.6),
    ("rac-lora", 6, "left", "1200", 1020, 0.921, -1.8),
    ("rac-lora", 2, "right", "300", 324, 0.861, -1.6),
    ("abm-lora", 1, None, "300", 302, 0.849, -2.0),
    ("abm-lora", 4, None, "1200", 1208, 0.909, -2.1),
    ("abm-lora-task", 1, None, "300", 302, 0.855, -2.0),
    ("abm-lora-task", 4, None, "1200", 1208, 0.911, -2.1),
    ("lora-xs", 11, None, "300", 363, 0.801, -0.9),
    ("lora-xs", 24, None, "1200", 1152, 0.893, -1.5),
    ("lora-sb", 11, None, "300", 363, 0.874, -1.4),
    ("lora-sb", 24, None, "1200", 1152, 0.924, -1.6),
    ("delora", 1, None, "300", 306, 0.836, -1.2),
    ("delora", 4, None, "1200", 1212, 0.907, -1.3),
    ("rac-lora-gradient", 2, "left", "300", 340, 0.882, -1.7),
    ("rac-lora-gradient", 6, "left", "1200", 1020, 0.928, -1.8),
]
Method = tuple[str, int | None, str | None, str, int, float, float]
FAILS_EVERYWHERE = ("rac-lora", 2, "right")
ERROR = "the loss is nan at step 37: lower the learning rate"
RETENTION = "accuracy on the digits 0-4 before training minus after"


def made_up_comparison() -> Comparison:
    """Return the summary and the runs."""
    runs = [
        _run(method, rate, seed) for method in METHODS for rate in LEARNING_RATES for seed in SEEDS
    ]
    rows = tuple(_row(method, runs) for method in METHODS)
    summary = Summary(
        task="digits",
        protocol=_protocol(),
        verdict=_VERDICT,
        methods=rows,
        retention=RETENTION,
    )
    return Comparison(summary, runs)


def with_rows(comparison: Comparison, rows: Iterable[SummaryRow], **more) -> Comparison:
    """The comparison with other rows, and with whatever else is told of its summary."""
    changed = comparison.summary.model_copy(update={"methods": tuple(rows), **more})
    return replace(comparison, summary=changed)


def with_runs(comparison: Comparison, runs: Sequence[Run], **changed) -> Comparison:
    """The comparison with other runs; ``changed`` is told of each that is done."""
    return replace(
        comparison,
        runs=[
            run.model_copy(update=changed) if isinstance(run, RunRecord) else run for run in runs
        ],
    )


_VERDICT = (
    "Budget 300, against lora: significantly better: lora-sb, rac-lora-gradient; significantly "
    "worse: lora-xs, asymm-lora; no significant difference for 5 of 9 methods.",
    "Budget 1200, against lora: significantly better: rac-lora-gradient; significantly worse: "
    "asymm-lora; no significant difference for 7 of 9 methods.",
)


_INIT = InitializationRecord(
    init="UpdateApproximation",
    layers=(
        LayerStart("a", 2, relative_strength=0.02, captured_before=0.1, captured_after=0.6),
        LayerStart("b", 2, relative_strength=0.04),
    ),
)


def _protocol() -> Protocol:
    return Protocol(
        learning_rates=LEARNING_RATES,
        seeds=SEEDS,
        baseline="lora",
        varied=("method.r",),
        command="rankwise compare digits --compare.seeds 0,1,2 --output runs/digits",
        interval="95 %, Student's t over seeds; differences are paired by seed, Bonferroni",
        training={"steps": STEPS, "batch_size": 32, "bf16": True, "max_grad_norm": None},
        task={"rows": {"train": 577}},
    )


def _key(method: Method) -> MethodIdentity:
    name, r, side, budget, *_ = method
    return MethodIdentity(name=name, r=r, side=side, budget=budget)


def _fails(method: Method, rate: float, seed: int) -> bool:
    diverges = method[0] == "delora" and rate == LEARNING_RATES[-1] and seed > 0
    return diverges or method[:3] == FAILS_EVERYWHERE


def _run(method: Method, rate: float, seed: int) -> Run:
    name, _, _, _, parameters, final, best = method
    if _fails(method, rate, seed):
        return made.failed_run(_key(method), rate=rate, seed=seed, error=ERROR)
    noise = random.Random("-".join(map(str, (*method[:4], rate, seed))))
    height = final - 0.12 * (math.log10(rate) - best) ** 2 + noise.gauss(0, 0.006)
    pace = 40 * math.exp(-0.6 * (math.log10(rate) - best)) * (0.75 if "sb" in name else 1.0)
    curve = tuple(
        CurvePoint(
            step=step,
            train_loss=2.3 * math.exp(-step / pace) + 0.2,
            validation_loss=2.3 * math.exp(-step / pace) + 0.3,
            validation_score=height * (1 - 0.9 * math.exp(-step / pace)) + noise.gauss(0, 0.003),
        )
        for step in range(0, STEPS + 1, 30)
    )
    is_chain = name.startswith(("cola", "rac-lora"))
    return made.run(
        _key(method),
        curve[-1].validation_score,
        rate=rate,
        seed=seed,
        trainable_parameters=parameters,
        init=_INIT if name == "lora-sb" else None,
        curve=curve,
        folds=(150, 300, 450) if is_chain else (),
        diagnostics=_diagnostics(name, parameters, rate, seed),
    )


def _diagnostics(name: str, parameters: int, rate: float, seed: int) -> tuple[DiagnosticPoint, ...]:
    """Relative norms at the first steps and every 30, the rest at the first steps alone."""
    share = 1.0 if name == "full" else min(parameters / 3000 + len(name) / 100, 0.9)
    return tuple(
        DiagnosticPoint(
            step=step,
            relative_norm=(1 + 0.05 * seed) * math.sqrt(rate * step * (2 + len(name) % 3)) / 3,
            captured_share=min(share + 0.002 * step, 1.0) if step in (0, 1, 3, 8, 20) else None,
            batch_loss=2 - (0.04 + 0.01 * seed) * step if step <= 20 else None,
        )
        for step in sorted({0, 1, 2, 3, 5, 8, 13, 20, *range(30, STEPS + 1, 30)})
    )


def _row(method: Method, runs: Sequence[Run]) -> SummaryRow:
    key = _key(method)
    own = [run for run in runs if run.method == key]
    means = {
        rate: fmean(run.score_validation for run in own if run.learning_rate == rate)
        for rate in LEARNING_RATES
        if all(isinstance(run, RunRecord) for run in own if run.learning_rate == rate)
    }
    if not means:
        return SummaryRow(**key.model_dump(), status="failed", error=ERROR)
    best = max(means, key=lambda rate: means[rate])
    score, half = means[best] - 0.008, 0.006 + 0.004 * (_number_of(method) % 5)
    is_edge = best in (LEARNING_RATES[0], LEARNING_RATES[-1])
    warning = f"the best learning rate {best:g} is still at the edge of its grid"
    contrast = {} if method[0] == "lora" else _contrast(score - 0.85, half)
    soon = {} if score < 0.85 else {"steps_to_baseline": 240, "samples_to_baseline": 240 * 32}
    return SummaryRow(
        **key.model_dump(),
        **contrast,
        **soon,
        seconds_to_baseline=0.9 if soon else None,
        trainable_parameters=method[4],
        stored_bytes=4 * method[4] + 900,
        learning_rate=best,
        score_validation=means[best],
        score_mean=score,
        score_low=score - half,
        score_high=score + half,
        seeds=SEEDS,
        init_seconds=0.4 if "sb" in method[0] or "abm" in method[0] else 0.003,
        train_seconds=1.9 + 0.001 * method[4],
        sweep_seconds=31.5,
        peak_memory_bytes=610_000_000 + 40_000 * method[4],
        forgetting_mean=0.4 * score - 0.3,
        forgetting_low=0.4 * score - 0.31,
        forgetting_high=0.4 * score - 0.29,
        warnings=(warning,) if is_edge else (),
    )


def _contrast(difference: float, half: float) -> dict[str, float]:
    return {
        "difference_mean": difference,
        "difference_low": difference - half,
        "difference_high": difference + half,
        "difference_rows_mean": difference,
        "difference_rows_low": difference - 2 * half,
        "difference_rows_high": difference + 2 * half,
    }


def _number_of(method: Method) -> int:
    """A number that depends on the method alone, the same in every process."""
    return sum(map(ord, "".join(map(str, method))))
