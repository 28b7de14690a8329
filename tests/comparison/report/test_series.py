"""The series are what the records say: means over all seeds, gaps where one is missing."""

from __future__ import annotations

from statistics import fmean

import pytest

from rankwise.comparison.report.series import (
    folds_within,
    learning_curve,
    learning_rate_sweep,
)
from tests.comparison import made_records as made
from tests.comparison.report_records import LEARNING_RATES, SEEDS, made_up_comparison

LORA = made.row("lora", learning_rate=0.1)


def run(seed=0, score=0.5, *, rate=0.1, of=LORA, **measured):
    return made.run(of, score, rate=rate, seed=seed, **measured)


def comparison(*runs):
    return made.comparison([LORA], runs)


def test_a_learning_curve_averages_the_chosen_runs_and_keeps_their_range():
    drawn = learning_curve(
        LORA,
        comparison(
            run(0, curve=made.curve(0.1, 0.5)),
            run(1, curve=made.curve(0.3, 0.9)),
            run(0, curve=made.curve(1.0, 1.0), rate=0.01),
            run(0, curve=made.curve(1.0, 1.0), of=made.row("lora", r=4)),
        ),
    )
    assert drawn.x == (0, 10)
    assert drawn.mean == pytest.approx((0.2, 0.7))
    assert (drawn.low, drawn.high) == ((0.1, 0.5), (0.3, 0.9))


def test_a_step_that_one_seed_lacks_is_left_out():
    runs = [run(0, curve=made.curve(0.5, first=10)), run(1, curve=made.curve(0.3, 0.9, 1.0))]
    assert learning_curve(LORA, comparison(*runs)).x == (10,)


def test_a_row_without_runs_has_an_empty_curve():
    assert learning_curve(LORA, comparison()).points == []


def test_a_sweep_has_a_gap_where_a_seed_failed():
    sweep = learning_rate_sweep(
        LORA,
        comparison(
            run(0, 0.9, rate=0.3),
            made.failed_run(LORA, rate=0.3, seed=1),
            run(0, 0.6),
            run(1, 0.8),
        ),
    )
    assert sweep.x == (0.1, 0.3)
    assert sweep.mean[0] == pytest.approx(0.7)
    assert (sweep.mean[1], sweep.low[1], sweep.high[1]) == (None, None, None)
    assert sweep.points == [(0.1, pytest.approx(0.7))]


def test_a_sweep_finds_every_run_of_its_row_and_no_other():
    made_up = made_up_comparison()
    lora = made_up.rows[1]
    sweep = learning_rate_sweep(lora, made_up)
    assert sweep.x == LEARNING_RATES
    chosen = sweep.mean[LEARNING_RATES.index(lora.learning_rate)]
    assert chosen == pytest.approx(lora.score_validation)
    assert chosen == max(mean for mean in sweep.mean if mean is not None)
    scores = [run.score_validation for run in made_up.chosen_runs(lora)]
    assert fmean(scores) == pytest.approx(chosen)


def test_folds_outside_the_curve_are_left_out():
    runs = [run(seed, curve=made.curve(0.1, 0.2, 0.3), folds=(15, 20, 25)) for seed in SEEDS]
    drawn = learning_curve(LORA, comparison(*runs))
    assert folds_within(LORA, comparison(*runs), drawn) == [15, 20]
