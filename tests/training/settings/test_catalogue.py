"""Every setting can be found by its name, with its default, its unit and what it means."""

from __future__ import annotations

import pytest

from rankwise.training.settings.catalogue import all_settings, settings_named
from rankwise.training.settings.recipe import load_recipe, recipe_names


@pytest.mark.parametrize("setting", all_settings(), ids=lambda each: f"{each.name} {each.of}")
def test_a_setting_says_what_it_means_and_in_what_it_counts(setting):
    assert setting.meaning
    assert not setting.meaning.endswith(".")
    assert setting.values
    assert bool(setting.unit) == (setting.takes("integer") or setting.takes("number")) or (
        setting.takes("array") or setting.maps_names or setting.name.endswith("parameters")
    )


def leaves(tree, above=""):
    for key, value in tree.items():
        name = f"{above}{key}"
        if isinstance(value, dict) and not settings_named(name):
            yield from leaves(value, f"{name}.")
        else:
            yield name


@pytest.mark.parametrize("recipe", recipe_names())
def test_all_that_a_recipe_holds_is_in_it(recipe):
    tree = load_recipe(recipe).model_dump(mode="json")
    missing = [name for name in leaves(tree) if not settings_named(name)]
    # A section that is not there has no settings.
    assert not [name for name in missing if tree.get(name, missing) is not None]


def test_a_setting_of_several_kinds_is_one_if_it_is_the_same_and_several_if_not():
    (alpha,) = settings_named("method.adapter.alpha")
    assert alpha.of == ("lora", "lora_xs")
    digits, mnist = settings_named("task.pretrain_epochs")
    assert (digits.of, digits.schema["default"]) == (("digits",), 30)
    assert (mnist.of, mnist.schema["default"]) == (("mnist",), 8)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("training.epochs", "whole number > 0"),
        ("training.warmup_ratio", "number ≥ 0 and < 1"),
        ("training.bf16", "true, false"),
        ("training.keep", "last, best"),
        ("training.patience", "whole number > 0 or null"),
        ("method.adapter.kind", "delora, full, lora, lora_xs, peft"),
        ("method.adapter.target_modules", "list of text or text or null"),
        ("method.adapter.rank_pattern", "mapping"),
        ("method.init.path", "path"),
        ("compare.methods", "list of methods"),
        ("compare.seeds", "list of whole number"),
    ],
)
def test_its_values_are_told_in_words(name, values):
    assert settings_named(name)[0].values == values
