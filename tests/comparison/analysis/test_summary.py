"""The summary says what the records say, and the verdict no more than that."""

from __future__ import annotations

import pytest

from rankwise.comparison.analysis.choice import MethodSweep
from rankwise.comparison.analysis.race import Dropped
from rankwise.comparison.analysis.summary import summarise, verdict
from rankwise.comparison.records import Summary
from rankwise.training.records import RetentionRecord, TestResult
from rankwise.training.settings.grid import GridPoint
from rankwise.training.settings.recipe import load_recipe
from tests.comparison import made_records as made


def run(name, seed, scores, *, rate=0.01):
    """A record whose validation scores at steps 10, 20, ... are ``scores``."""
    return made.run(name, scores[-1], rate=rate, seed=seed, curve=made.curve(*scores, first=10))


def summary_of(curves, tests, *, budgets=None, answers=None):
    """``curves[name]`` is a list of records, ``tests[name]`` the test scores of the chosen runs.

    ``answers`` maps the name of a run to its labels on test and what it predicted there.
    """
    methods = [
        {"name": name, "r": 2, "budget": (budgets or {}).get(name, "300")} for name in curves
    ]
    recipe = load_recipe("digits", {"compare": {"methods": methods, "learning_rates": [0.01]}})
    sweeps = [
        MethodSweep(method, [GridPoint(0.01)], records)
        for method, records in zip(recipe.compare.methods, curves.values(), strict=True)
    ]
    results = {
        record.run: TestResult(
            run=record.run,
            score_test=score,
            scores={"accuracy": score},
            **(answers or {}).get(record.run, {}),
        )
        for name, scores in tests.items()
        for record, score in zip(curves[name], scores, strict=True)
    }
    return summarise(recipe, sweeps, results, command="rankwise compare digits")


@pytest.fixture(scope="module")
def summary():
    curves = {
        "lora": [run("lora", seed, [0.4, 0.5, 0.6]) for seed in range(3)],
        "delora": [run("delora", seed, [0.5, 0.7, 0.9]) for seed in range(3)],
        "lora-xs": [run("lora-xs", seed, [0.1, 0.1, 0.2]) for seed in range(3)],
        "cola": [made.failed_run("cola")],
    }
    tests = {
        "lora": [0.50, 0.60, 0.70],
        "delora": [0.80, 0.90, 1.00],
        "lora-xs": [0.70, 0.55, 0.60],
    }
    return summary_of(curves, tests)


def rows(summary):
    return {row.name: row for row in summary.methods}


def test_it_is_read_back_as_it_was_written(summary, tmp_path):
    summary.write(tmp_path / "summary.json")
    assert Summary.read(tmp_path / "summary.json") == summary


def test_scores_are_means_over_seeds_of_test(summary):
    row = rows(summary)["delora"]
    assert row.score_mean == pytest.approx(0.9)
    assert row.score_validation == pytest.approx(0.9)
    # s = 0.1, three seeds: 4.3027 * 0.1 / √3; an accuracy is not above 1.
    assert row.score_mean - row.score_low == pytest.approx(0.24841, abs=1e-4)
    assert row.score_high == 1.0


def test_samples_and_seconds_to_baseline_follow_the_steps(summary):
    row = rows(summary)["delora"]
    assert row.samples_to_baseline == 20 * 32 * 2
    # Two of three points of the curve: its init, and two thirds of its training.
    assert row.seconds_to_baseline == pytest.approx(0.5 + 2.0 * 2 / 3)
    assert rows(summary)["lora-xs"].seconds_to_baseline is None


def test_seeds_that_stopped_early_are_compared_where_all_have_a_score():
    curves = {
        "lora": [run("lora", 0, [0.4, 0.6]), run("lora", 1, [0.4, 0.6])],
        "full": [run("full", 0, [0.5, 0.7, 0.9]), run("full", 1, [0.5, 0.7])],
    }
    summary = summary_of(curves, {"lora": [0.5, 0.6], "full": [0.9, 0.8]})
    assert rows(summary)["full"].steps_to_baseline == 20


def test_steps_to_baseline_is_where_the_mean_curve_reaches_the_baselines_end(summary):
    assert rows(summary)["delora"].steps_to_baseline == 20
    assert rows(summary)["lora"].steps_to_baseline == 30
    assert rows(summary)["lora-xs"].steps_to_baseline is None


def test_a_method_that_failed_is_a_row_that_says_why(summary):
    row = rows(summary)["cola"]
    assert (row.status, row.error) == ("failed", "the loss became nan")
    assert row.score_mean is None


def test_a_difference_that_all_seeds_share_is_significant_and_noise_is_not(summary):
    assert rows(summary)["delora"].difference_mean == pytest.approx(0.3)
    assert rows(summary)["delora"].difference_low > 0
    (sentence,) = summary.verdict
    assert "significantly better: delora;" in sentence
    assert "significantly worse: none;" in sentence
    assert "no significant difference for 1 of 2" in sentence


def test_rows_of_one_name_are_told_apart_by_their_sides():
    rows = [
        made.row("rac-lora", side="left", difference_low=0.1, difference_high=0.2),
        made.row("rac-lora", side="right", difference_low=-0.1, difference_high=0.2),
    ]
    (sentence,) = verdict(rows, baseline="lora")
    assert "significantly better: rac-lora (left);" in sentence


def test_a_budget_without_a_baseline_is_measured_against_the_nearest():
    curves = {
        "lora": [run("lora", seed, [0.6]) for seed in range(2)],
        "full": [run("full", seed, [0.9]) for seed in range(2)],
    }
    tests = {"lora": [0.5, 0.6], "full": [0.7, 0.8]}
    summary = summary_of(curves, tests, budgets={"full": "full"})
    assert rows(summary)["full"].difference_mean == pytest.approx(0.2)


def test_one_seed_gives_no_interval_and_no_claim():
    curves = {"lora": [run("lora", 0, [0.6])], "full": [run("full", 0, [0.9])]}
    summary = summary_of(curves, {"lora": [0.5], "full": [0.9]})
    assert rows(summary)["full"].score_low is None
    assert list(summary.verdict) == verdict([], baseline="lora")
    assert "No method could be compared" in summary.verdict[0]


def test_a_row_says_what_was_tried_and_what_trying_has_cost():
    names = {"name": "lora", "r": 2, "sweep": {"adapter.alpha": [2, 4]}}
    seeds = {"seeds": [0, 1, 2, 3], "sweep_seeds": 2, "learning_rates": [0.01, 0.1]}
    recipe = load_recipe("digits", {"compare": {"methods": [names], **seeds}})
    (method,) = recipe.compare.methods
    sweep = MethodSweep(method, recipe.compare.points_of(method))
    best = GridPoint(0.01, (("adapter.alpha", 4),))
    for point in sweep.points:
        for seed in (0, 1, 2, 3) if point == best else (0, 1):
            settings = method.run(recipe.run(), at=point, seed=seed).model_dump(mode="json")
            record = made.run("lora", 0.9 if point == best else 0.5, rate=point.learning_rate)
            name = f"{point} {seed}"
            known = {"settings": settings, "seed": seed, "run": name}
            sweep.records.append(record.model_copy(update=known))
    sweep.dropped.append(Dropped(sweep.points[0], seeds=2, behind=0.4, chance=0.001))
    sweep.choose()
    tests = {
        run.run: TestResult(run=run.run, score_test=0.8, scores={}) for run in sweep.best_runs()
    }
    (row,) = summarise(recipe, [sweep], tests, command="").methods
    assert (row.settings, row.swept) == ({"adapter.alpha": 4}, {"adapter.alpha": (2, 4)})
    assert (row.learning_rate, row.learning_rates) == (0.01, (0.01, 0.1))
    assert row.seeds == (0, 1, 2, 3)
    assert (row.tuning_runs, row.tuning_seconds) == (8, pytest.approx(8 * 3.0))
    assert row.dropped[0].settings == {"adapter.alpha": 2}
    assert "the best adapter.alpha 4 is still at the edge of its grid" in row.warnings


def test_forgetting_is_a_mean_over_the_runs_where_it_was_measured_of_all():
    recipe = load_recipe("digits", {"compare": {"methods": [{"name": "lora", "r": 2}]}})
    (method,) = recipe.compare.methods
    runs = [run("lora", seed, [0.5]) for seed in range(3)]
    sweep = MethodSweep(method, [GridPoint(0.01)], runs)
    tests = {each.run: TestResult(run=each.run, score_test=0.5, scores={}) for each in runs}
    lost = {
        each.run: RetentionRecord(
            run=each.run, measure="what is left", before=0.9, after=0.9 - lost, forgetting=lost
        )
        for each, lost in zip(runs, (0.1, 0.2, 0.3))
    }
    found = summarise(recipe, [sweep], tests, retained=lost, command="")
    (row,) = found.methods
    assert found.retention == "what is left"
    assert row.forgetting_mean == pytest.approx(0.2)
    # s = 0.1, three seeds: 4.3027 * 0.1 / √3.
    assert row.forgetting_low == pytest.approx(0.2 - 0.24841, abs=1e-4)
    del lost[runs[0].run]
    (row,) = summarise(recipe, [sweep], tests, retained=lost, command="").methods
    assert row.forgetting_mean is None
