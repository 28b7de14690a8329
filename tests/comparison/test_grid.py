"""The grid, and how it grows beyond an edge."""

from __future__ import annotations

import pytest

from rankwise.comparison.grid import (
    MOST_TOGETHER,
    comparison_of,
    examined_runs,
    runs_of,
    together,
    widened,
)
from rankwise.core.errors import SettingsError
from rankwise.training.settings.grid import GridPoint
from rankwise.training.settings.recipe import load_recipe

GRID = [3e-4, 1e-3, 3e-3, 1e-2, 3e-2]


@pytest.mark.parametrize(
    ("rates", "best", "expected"),
    [
        (GRID, 3e-3, None),
        (GRID, 3e-2, 0.1),
        ([*GRID, 0.1], 0.1, 0.3),
        (GRID, 3e-4, 1e-4),
        ([1e-4, *GRID], 1e-4, 3e-5),
        ([1e-3, 1e-2], 1e-2, 0.1),
        ([1e-2], 1e-2, None),
    ],
)
def test_a_grid_grows_by_its_own_spacing_beyond_the_best_edge(rates, best, expected):
    assert widened(rates, best) == expected


def test_runs_are_every_rate_with_every_seed_and_have_names_of_their_own():
    recipe = load_recipe("digits")
    runs = runs_of(
        recipe, recipe.compare.methods[0], points=[GridPoint(1e-3), GridPoint(1e-2)], seeds=[4, 7]
    )
    pairs = [(run.training.learning_rate, run.seed) for run in runs]
    assert pairs == [(1e-3, 4), (1e-3, 7), (1e-2, 4), (1e-2, 7)]
    assert len({run.name for run in runs}) == 4


def test_no_two_runs_of_the_shipped_grid_share_a_name():
    recipe = load_recipe("digits")
    comparison = recipe.compare
    runs = [
        run
        for method in comparison.methods
        for run in runs_of(
            recipe, method, points=comparison.points_of(method), seeds=comparison.seeds
        )
    ]
    assert len({run.name for run in runs}) == len(runs)


def test_a_recipe_without_a_comparison_is_refused(tmp_path):
    file = tmp_path / "one.yaml"
    file.write_text("method: {name: lora, r: 2}\n")
    with pytest.raises(SettingsError, match="no section 'compare'"):
        comparison_of(load_recipe(str(file)))


def test_a_baseline_that_is_not_compared_is_refused():
    recipe = load_recipe("digits", {"compare": {"baseline": "dora"}})
    with pytest.raises(SettingsError, match="baseline 'dora' must be one of the methods"):
        comparison_of(recipe)


def test_no_rate_is_chosen_by_rows_that_are_trained_on():
    final = {"task": {"protocol": "final"}}
    with pytest.raises(SettingsError, match=r"'final' trains on the validation rows .* one in"):
        comparison_of(load_recipe("abm-vtab", final))
    one_rate = {"compare": {"learning_rates": [1e-3]}}
    assert comparison_of(load_recipe("abm-vtab", final | one_rate)).learning_rates == (1e-3,)


def test_a_doctor_sees_the_runs_that_a_comparison_makes():
    methods = [{"name": "lora"}, {"name": "lora", "label": "longer", "training": {"epochs": 2}}]
    recipe = load_recipe("digits", {"compare": {"methods": methods}, "seed": 5})
    plain, longer = examined_runs(recipe)
    assert (plain.training.epochs, longer.training.epochs) == (30, 2)
    assert {(run.training.learning_rate, run.seed) for run in (plain, longer)} == {(1e-2, 5)}
    (compared,) = runs_of(recipe, recipe.compare.methods[1], points=[GridPoint(1e-2)], seeds=[5])
    assert longer == compared


def test_without_a_comparison_a_doctor_sees_the_recipes_own_run(tmp_path):
    file = tmp_path / "one.yaml"
    file.write_text("method: {name: lora, r: 2}\n")
    recipe = load_recipe(str(file))
    assert examined_runs(recipe) == [recipe.run()]


def test_stackable_runs_are_grouped_and_others_go_alone():
    methods = [{"name": "lora", "r": 2, "sweep": {"adapter.alpha": [2, 4]}}, {"name": "full"}]
    recipe = load_recipe("digits", {"compare": {"methods": methods}})
    comparison = recipe.compare
    runs = [
        run
        for method in comparison.methods
        for run in runs_of(recipe, method, points=comparison.points_of(method), seeds=range(3))
    ]
    groups = together(runs)
    assert [len(group) for group in groups] == [15, 15, 15]
    assert [run for group in groups for run in group] == runs
    trainer = [
        run.model_copy(update={"training": run.training.model_copy(update={"loop": "trainer"})})
        for run in runs
    ]
    assert together(trainer) == [[run] for run in trainer]
    assert max(len(group) for group in together(runs * 3)) <= MOST_TOGETHER
