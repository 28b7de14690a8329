"""A recipe that is written is read as the same recipe, and says what each setting means."""

from __future__ import annotations

import pytest

from rankwise.training.settings.recipe import load_recipe, recipe_names
from rankwise.training.settings.written import write_recipe


def reread(recipe, folder):
    file = folder / "written.yaml"
    file.write_text(write_recipe(recipe), encoding="utf-8")
    return load_recipe(str(file))


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_is_read_as_it_was_written(name, tmp_path):
    recipe = load_recipe(name)
    assert reread(recipe, tmp_path) == recipe


@pytest.mark.parametrize(
    ("name", "variant", "overrides"),
    [
        ("rac-mnist", "quick", {"method": "cola", "task": {"data_root": "/a b/ä: #"}}),
        ("rac-mnist", "full", {}),
        ("delora-glue", None, {"task": {"name": "sst2"}, "method": {"published": None}}),
        ("digits", None, {"method": {"label": "3", "adapter": {"rank_pattern": {"a.1": 2}}}}),
        ("digits", None, {"compare": {"methods": [{"name": "lora", "training": {"epochs": 1}}]}}),
        ("digits", None, {"compare": {"methods": [{"name": "lora", "init": {"kind": "update"}}]}}),
    ],
)
def test_so_is_one_that_was_changed(name, variant, overrides, tmp_path):
    recipe = load_recipe(name, overrides, variant=variant)
    assert reread(recipe, tmp_path) == recipe


def test_each_setting_has_its_meaning_beside_it():
    lines = write_recipe(load_recipe("digits")).splitlines()
    assert "  epochs: 30  # passes over the training rows (epochs)" in lines
    assert "    - {name: cola, r: 1, budget: '300'}" in lines
    in_training = lines[lines.index("training:") + 1 : lines.index("compare:")]
    assert all("  # " in line for line in in_training if line and not line.endswith(":"))
