"""The schema for editors accepts what recipes may say, and marks what they may not."""

from __future__ import annotations

from importlib import resources

import pytest

from rankwise.core.yaml_text import read_yaml
from rankwise.training.settings.recipe import load_recipe, recipe_names
from rankwise.training.settings.schema import recipe_schema
from rankwise.training.settings.written import write_recipe

jsonschema = pytest.importorskip("jsonschema")


@pytest.fixture(scope="module")
def validator():
    schema = recipe_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_is_valid_as_it_ships_and_as_it_is_shown(validator, name):
    text = (resources.files("rankwise") / "recipes" / f"{name}.yaml").read_text(encoding="utf-8")
    assert not list(validator.iter_errors(read_yaml(text)))
    assert not list(validator.iter_errors(read_yaml(write_recipe(load_recipe(name)))))


@pytest.mark.parametrize(
    "recipe",
    [
        {"method": "lora-sb", "compare": {"methods": ["lora", {"name": "cola"}]}},
        {"method": {"adapter": {"alpha": 16}}},
        {"tasks": {"mrpc": {"training": {"epochs": 3}}}},
    ],
)
def test_what_a_recipe_may_leave_out_is_not_missed(validator, recipe):
    assert not list(validator.iter_errors(recipe))


@pytest.mark.parametrize(
    "recipe",
    [
        {"trainin": {}},
        {"training": {"epochs": 0}},
        {"training": {"lr": 0.1}},
        {"method": "lorra"},
        {"method": {"adapter": {"delora_lambda": 4, "alpha": 1}}},
        {"compare": {"methods": [{"name": "x"}]}},
        {"tasks": {"mrpc": {"nonsense": 1}}},
    ],
)
def test_a_mistake_is_marked(validator, recipe):
    assert list(validator.iter_errors(recipe))


def test_an_editor_can_show_what_a_setting_means():
    training = recipe_schema()["$defs"]["TrainingSettings"]["properties"]
    assert training["epochs"]["description"] == "passes over the training rows"
    assert (training["epochs"]["unit"], training["epochs"]["default"]) == ("epochs", 30)
