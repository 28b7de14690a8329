"""A comparison is cut until it fits: the grid first, the seeds last."""

from __future__ import annotations

import pytest

from rankwise.comparison.plan import counted_runs, cut_to_hours, hours_of, runs_of_a_method
from rankwise.core.errors import SettingsError
from rankwise.training.probes.cost import RunCost
from rankwise.training.settings.recipe import load_recipe

HOUR = RunCost(
    run="a",
    epochs=4,
    steps=400,
    trainable_parameters=1,
    stored_bytes=1,
    peak_memory_bytes=1,
    start_seconds=0.0,
    step_seconds=9.0,
    scoring_seconds=0.0,
)


@pytest.fixture
def recipe():
    return load_recipe(
        "digits",
        {
            "training": {"epochs": 4},
            "compare": {
                "methods": [{"name": "lora", "r": 1}],
                "baseline": "lora",
                "budgets": None,
                "learning_rates": [1e-4, 1e-3, 1e-2],
                "seeds": [0, 1],
                "widenings": 2,
            },
        },
    )


def test_a_run_takes_its_start_its_steps_and_its_scores():
    cost = RunCost("a", 4, 400, 1, 1, 1, start_seconds=5, step_seconds=2, scoring_seconds=3)
    assert cost.seconds == 5 + 400 * 2 + 5 * 3
    assert cost.seconds_of(2) == 5 + 200 * 2 + 3 * 3


def test_runs_are_counted_with_those_of_a_grid_that_grows(recipe):
    (method,) = recipe.compare.methods
    assert runs_of_a_method(recipe.compare, method) == (6, 4)
    swept = recipe.compare.model_copy(update={"sweep_seeds": 1})
    assert runs_of_a_method(swept, method) == (4, 2)
    assert counted_runs(swept) == (
        "at most 4 runs: 1 method, 2 seeds, and up to 2 more where a grid of rates grows"
    )


def test_one_seed_is_told_by_its_number(recipe):
    alone = recipe.compare.model_copy(update={"seeds": (3,), "widenings": 0})
    assert counted_runs(alone) == "at most 3 runs: 1 method, 1 seed (number 3)"


@pytest.mark.parametrize(("seeds", "sweep_seeds", "runs"), [(5, None, 20), (5, 1, 8), (1, 3, 4)])
def test_each_rate_is_on_the_seeds_of_the_sweep_and_the_best_on_the_others(
    recipe, seeds, sweep_seeds, runs
):
    changes = {
        "learning_rates": (1e-4, 1e-3, 1e-2, 1e-1),
        "seeds": tuple(range(seeds)),
        "sweep_seeds": sweep_seeds,
    }
    comparison = recipe.compare.model_copy(update=changes)
    assert runs_of_a_method(comparison, comparison.methods[0])[0] == runs


def test_hours_are_shared_by_the_workers(recipe):
    costs = [HOUR] * len(recipe.compare.chosen_methods)
    each = len(costs)
    assert hours_of(recipe, costs, workers=1, grown=False) == pytest.approx(6 * each)
    assert hours_of(recipe, costs, workers=2, grown=True) == pytest.approx(5 * each)


@pytest.mark.parametrize(
    ("hours", "widenings", "rates", "epochs", "seeds"),
    [
        (10.1, 2, (1e-4, 1e-3, 1e-2), 4, (0, 1)),
        (6.1, 0, (1e-4, 1e-3, 1e-2), 4, (0, 1)),
        (4.1, 0, (1e-4, 1e-3, 1e-2), 4, (0, 1)),
        (3.1, 0, (1e-4, 1e-3), 4, (0, 1)),
        (1.6, 0, (1e-4, 1e-3), 2, (0, 1)),
        (0.6, 0, (1e-4,), 1, (0, 1)),
        (0.3, 0, (1e-4,), 1, (0,)),
    ],
)
def test_the_seeds_are_cut_last(recipe, hours, widenings, rates, epochs, seeds):
    costs = [HOUR] * len(recipe.compare.chosen_methods)
    cut, sentences = cut_to_hours(recipe, costs, hours * len(costs), workers=1)
    found = cut.compare
    assert (found.widenings, found.learning_rates, cut.training.epochs, found.seeds) == (
        widenings,
        rates,
        epochs,
        seeds,
    )
    assert bool(sentences) == (hours < 10)


def test_hours_that_are_too_few_are_refused(recipe):
    costs = [HOUR] * len(recipe.compare.chosen_methods)
    with pytest.raises(SettingsError, match=r"--hours 0\.1 is too little: .* still take 0\.25 h"):
        cut_to_hours(recipe, costs, 0.1, workers=1)
