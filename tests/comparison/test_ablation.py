"""An ablation is a comparison of one method with itself, under each combination of the values."""

from __future__ import annotations

import pytest

from rankwise.comparison.ablation import varied_methods
from rankwise.comparison.grid import runs_of
from rankwise.core.errors import SettingsError
from rankwise.training.settings.grid import GridPoint
from rankwise.training.settings.recipe import load_recipe


def varied_recipe(**variations):
    keys = {key.replace("__", "."): values for key, values in variations.items()}
    methods = varied_methods("abm-lora", keys)
    return load_recipe(
        "digits",
        {
            "method": {"name": "abm-lora", "r": 3},
            "compare": {"methods": methods, "baseline": methods[0]["label"]},
        },
    )


def run_of(recipe, position):
    (run,) = runs_of(recipe, recipe.compare.methods[position], points=[GridPoint(1e-3)], seeds=[7])
    return run


def test_each_value_is_the_recipes_own_method_with_that_value():
    recipe = varied_recipe(method__init__margin=[0, 0.25, 1])
    assert [method.title for method in recipe.compare.methods] == [
        "margin=0",
        "margin=0.25",
        "margin=1",
    ]
    assert [method.init.margin for method in recipe.compare.methods] == [0, 0.25, 1]
    assert {method.r for method in recipe.compare.methods} == {3}


def test_settings_of_training_and_task_vary_too():
    recipe = varied_recipe(training__epochs=[1, 2], task__seed=[0, 5])
    assert [method.title for method in recipe.compare.methods] == [
        "epochs=1,seed=0",
        "epochs=1,seed=5",
        "epochs=2,seed=0",
        "epochs=2,seed=5",
    ]
    run = run_of(recipe, 3)
    assert (run.training.epochs, run.task.seed) == (2, 5)
    assert (run.training.learning_rate, run.seed) == (1e-3, 7)


def test_a_value_that_no_run_can_have_is_refused_before_any_run():
    with pytest.raises(SettingsError, match=r"margin.*greater than or equal to 0"):
        varied_recipe(method__init__margin=[0, -1])
    with pytest.raises(SettingsError, match=r"epochs"):
        varied_recipe(training__epochs=[1, 0])


@pytest.mark.parametrize(
    ("key", "values", "message"),
    [
        ("compare.seeds", [1], r"takes a setting of method, task, training.*got 'compare.seeds'"),
        ("method", [1], "got 'method'"),
        ("training.learning_rate", [1], r"learning rates are compare\.learning_rates"),
        ("method.r", [1, 1], r"different single values, got \[1, 1\]"),
        ("method.r", [[1]], r"different single values, got \[\[1\]\]"),
    ],
)
def test_what_cannot_be_varied_is_refused(key, values, message):
    with pytest.raises(SettingsError, match=message):
        varied_methods("lora", {key: values})
