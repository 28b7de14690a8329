"""A method's name means its row in the table of methods, whatever recipe it is put into."""

from __future__ import annotations

import pytest

from rankwise.core.errors import SettingsError
from rankwise.methods.table import METHODS
from rankwise.training.settings.method import MethodSettings
from rankwise.training.settings.recipe import load_recipe, recipe_names

# What a row may say of its parts: which method it is, and not how much of it.
IDENTITY = ("kind", "mode", "reference", "side", "sketch", "peft_type")


def own_method(text, tmp_path, **overrides):
    file = tmp_path / "recipe.yaml"
    file.write_text(text, encoding="utf-8")
    return load_recipe(str(file), overrides).method


@pytest.mark.parametrize("recipe", recipe_names())
@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_its_row_on_every_recipe(recipe, name):
    overrides = {"method": {"name": name}}
    if name == "full" and hasattr(load_recipe(recipe).task, "dtype"):
        # It trains the weights themselves, and refuses those of fewer digits.
        overrides["task"] = {"dtype": "float32"}
    method = load_recipe(recipe, overrides).method
    row = MethodSettings.model_validate({"name": name, **METHODS[name].parts()})
    assert method.name == name
    for axis in ("adapter", "init", "schedule"):
        resolved, meant = (getattr(each, axis).model_dump() for each in (method, row))
        assert resolved.keys() == meant.keys()
        for key in meant.keys() & {*IDENTITY}:
            assert (axis, key, resolved[key]) == (axis, key, meant[key])


def test_the_reference_of_the_released_code_is_trained_on_the_task():
    method = load_recipe("abm-glue", {"method": {"name": "abm-lora-task"}}).method
    assert method.init.reference == "task"
    # The entry of the method has the settings of the start.
    assert (method.init.last, method.init.batch_size) == (6, 1)
    assert (method.adapter.alpha, method.adapter.dropout) == (16, 0.05)


@pytest.mark.parametrize("recipe", ["rac-mnist", "rac-glue"])
@pytest.mark.parametrize(
    ("name", "side", "sketch"),
    [("cola", "both", None), ("rac-lora-gradient", "left", "gradient")],
)
def test_a_chain_does_not_take_side_and_sketch_of_the_recipes_own(recipe, name, side, sketch):
    schedule = load_recipe(recipe, {"method": {"name": name}}).method.schedule
    assert (schedule.side, schedule.sketch) == (side, sketch)


def test_of_several_entries_that_of_the_recipes_rank_is_meant_else_the_first():
    assert load_recipe("digits", {"method": {"name": "delora"}}).method.r == 4
    lora_sb = load_recipe("digits", {"method": {"name": "lora-sb"}}).method
    assert (lora_sb.r, lora_sb.adapter.rank_pattern) == (11, {"layers.4": 5})


def test_an_option_is_stronger_than_the_entry():
    change = {"name": "lora-sb", "r": 3, "schedule": {"kind": "single"}}
    assert load_recipe("digits", {"method": change}).method.r == 3
    change = {"name": "cola", "schedule": {"side": "right"}}
    assert load_recipe("rac-mnist", {"method": change}).method.schedule.side == "right"


def test_what_goes_with_the_rank_of_an_entry_goes_without_it():
    method = load_recipe("digits", {"method": {"name": "lora-xs"}}).method
    assert (method.budget, method.adapter.rank_pattern) == ("300", {"layers.4": 5})
    method = load_recipe("digits", {"method": {"name": "lora-xs", "r": 2}}).method
    assert (method.r, method.budget, method.adapter.rank_pattern) == (2, "", {})


def test_what_the_entry_has_for_its_runs_comes_along():
    named = load_recipe("digits-federated", {"method": {"name": "lora-sb"}})
    assert (named.method.r, named.training.learning_rate) == (24, 0.1)
    rate = {"training": {"learning_rate": 0.5}}
    assert load_recipe("digits-federated", {"method": "lora-sb", **rate}).run().training == (
        named.training.model_copy(update={"learning_rate": 0.5})
    )


CHAIN = """
method:
  name: rac-lora
  r: 3
  label: mine
  published: 0.9
  adapter: {target_modules: [q], alpha: 6}
  schedule: {every_epochs: 2, side: right, sketch: kaiming}
"""


def test_without_an_entry_it_keeps_what_its_row_leaves_open(tmp_path):
    cola = own_method(CHAIN, tmp_path, method={"name": "cola"})
    assert (cola.r, cola.adapter.target_modules, cola.adapter.alpha) == (3, ["q"], 6)
    schedule = cola.schedule
    assert (schedule.every_epochs, schedule.side, schedule.sketch) == (2, "both", None)
    assert (cola.label, cola.published) == (None, None)


def test_another_kind_of_adapter_keeps_only_the_layers(tmp_path):
    delora = own_method(CHAIN, tmp_path, method="delora")
    assert (delora.r, delora.adapter.target_modules, delora.schedule.kind) == (3, ["q"], "single")


def test_full_has_no_layers_to_keep(tmp_path):
    assert own_method(CHAIN, tmp_path, method="full").adapter.model_dump() == {
        "kind": "full",
        "only_biases": False,
    }


def test_names_alone_pick_the_recipes_entries_for_a_comparison():
    comparison = load_recipe("digits", {"compare": {"methods": ["lora", "lora-sb"]}}).compare
    assert [(method.name, method.r, method.budget) for method in comparison.methods] == [
        ("lora", 1, "300"),
        ("lora", 4, "1200"),
        ("lora-sb", 11, "300"),
        ("lora-sb", 24, "1200"),
    ]
    labelled = load_recipe("digits", {"compare": {"methods": ["lora", "lora+"]}}).compare
    assert [(method.title, method.r) for method in labelled.methods] == [
        ("lora", 1),
        ("lora", 4),
        ("lora+", 1),
        ("lora+", 4),
    ]
    (peft,) = load_recipe("digits", {"compare": {"methods": ["peft"]}}).compare.methods
    assert (peft.name, peft.adapter.kind) == ("peft", "peft")


@pytest.mark.parametrize("name", ["lorra", 3])
def test_a_name_that_nobody_knows_is_refused(name):
    with pytest.raises(SettingsError, match=rf"no method '{name}'"):
        load_recipe("digits", {"method": {"name": name}})
