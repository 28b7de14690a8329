"""Each method against the baseline: how much better, how much sooner, and how sure that is."""

from __future__ import annotations

import math
from statistics import fmean
from typing import Any

from rankwise.comparison.analysis.choice import MethodSweep
from rankwise.comparison.analysis.statistics import crossed_difference, paired_difference

Record = dict[str, Any]


def add_contrasts(
    rows: list[Record], sweeps: list[MethodSweep], tests: dict[str, Record], *, baseline: str
) -> None:
    """Measure each row against the baseline of its budget, or else the nearest in parameters."""
    scored = [i for i, row in enumerate(rows) if row["status"] == "ok"]
    bases = [i for i in scored if rows[i]["name"] == baseline]
    for i in scored:
        same = [base for base in bases if rows[base]["budget"] == rows[i]["budget"]]
        base = min(same or bases, key=lambda base: _distance(rows[base], rows[i]), default=None)
        if base is None:
            continue
        rows[i] |= _until(sweeps[i], rows[i], rows[base]["score_validation"])
        if rows[i]["name"] == baseline:
            continue
        peers = sum(rows[j]["budget"] == rows[i]["budget"] for j in scored if j not in bases)
        difference = paired_difference(rows[i]["scores"], rows[base]["scores"], comparisons=peers)
        rows[i]["difference_mean"] = difference.mean
        rows[i]["difference_low"] = difference.low
        rows[i]["difference_high"] = difference.high
        rows[i] |= _over_rows(sweeps[i], sweeps[base], tests, comparisons=peers)


def _distance(base: Record, row: Record) -> float:
    return abs(math.log(base["trainable_parameters"] / row["trainable_parameters"]))


def _until(method: MethodSweep, row: Record, score: float) -> Record:
    """Return the steps, samples and seconds until the mean validation curve reaches ``score``.

    The seconds are those of the initialization and of the share of training that the steps are.
    """
    curve = _mean_curve(method)
    step = next((step for step, mean in curve if mean >= score), None)
    if step is None:
        return {}
    last = max(curve[-1][0], 1)
    return {
        "steps_to_baseline": step,
        "samples_to_baseline": step * _samples_a_step(_chosen(method)[0]),
        "seconds_to_baseline": row["init_seconds"] + row["train_seconds"] * step / last,
    }


def _samples_a_step(record: Record) -> int:
    training = record["settings"]["training"]
    return training["batch_size"] * training.get("accumulation_steps", 1)


def _mean_curve(method: MethodSweep) -> list[tuple[int, float]]:
    """Return the steps that all chosen runs reached, with the mean validation score there."""
    curves = [record["curve"] for record in _chosen(method)]
    return [
        (points[0]["step"], fmean(point["validation_score"] for point in points))
        for points in zip(*curves, strict=False)
    ]


def _chosen(method: MethodSweep) -> list[Record]:
    best = method.best()
    assert best is not None
    return method.of_rate(best)


def _over_rows(
    method: MethodSweep, base: MethodSweep, tests: dict[str, Record], *, comparisons: int
) -> Record:
    """Return the difference over seeds and test rows; nothing where rows cannot be paired.

    They can be if the metric is a mean over rows, and if every seed has the same rows.
    """
    records = [*_chosen(method), *_chosen(base)]
    answers = [tests[record["run"]] for record in records]
    if records[0]["metric"] != "accuracy" or any("labels" not in each for each in answers):
        return {}
    if any(each["labels"] != answers[0]["labels"] for each in answers):
        return {}
    correct = [
        [float(said == right) for said, right in zip(each["predictions"], each["labels"])]
        for each in answers
    ]
    half = len(_chosen(method))
    interval = crossed_difference(correct[:half], correct[half:], comparisons=comparisons)
    return {
        "difference_rows_mean": interval.mean,
        "difference_rows_low": interval.low,
        "difference_rows_high": interval.high,
    }
