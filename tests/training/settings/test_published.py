"""Scores of papers stand beside the runs that they are scores of, and beside no others."""

from __future__ import annotations

import pytest

from rankwise.comparison.ablation import varied_methods
from rankwise.training.settings.recipe import load_recipe


def published(recipe, overrides=None, **options):
    """The scores shown: of the recipe's own run, and of the methods compared."""
    loaded = load_recipe(recipe, overrides or {}, **options)
    return loaded.method.published, [
        (method.r, method.published)
        for method in loaded.compare.methods
        if method.published is not None
    ]


def test_a_run_as_published_has_its_score():
    assert published("sb-glue") == (0.9012, [(24, 0.9012)])
    assert published("sb-glue", {"task": {"name": "cola"}}) == (0.6828, [(24, 0.6828)])


@pytest.mark.parametrize(
    "overrides",
    [
        {"training": {"learning_rate": 1e-4}},
        {"task": {"data_root": "/data"}},
        {"training": {"report_to": ["tensorboard"]}},
        {"compare": {"seeds": [1]}},
        {"seed": 3},
    ],
)
def test_what_is_swept_or_changes_nothing_leaves_it(overrides):
    assert published("sb-glue", overrides) == (0.9012, [(24, 0.9012)])


@pytest.mark.parametrize(
    "overrides",
    [
        {"task": {"model": "FacebookAI/roberta-base"}},
        {"task": {"rows": 100}},
        {"training": {"epochs": 2}},
        {"training": {"batch_size": 8}},
        {"method": {"r": 8}},
        {"method": {"adapter": {"alpha": 16}}},
    ],
)
def test_another_model_rows_schedule_rank_or_option_has_none(overrides):
    assert published("sb-glue", overrides) == (None, [])


def test_a_method_of_another_rank_or_with_other_settings_does_not_inherit_it():
    entries = [
        {"name": "lora-sb", "r": 8},
        {"name": "lora-sb", "label": "short", "training": {"epochs": 1}},
        {"name": "lora-sb", "label": "same"},
        "lora",
    ]
    assert published("sb-glue", {"compare": {"methods": entries}})[1] == [(24, 0.9012)]


def test_an_ablation_has_none_but_at_the_value_that_was_published():
    methods = varied_methods("lora-sb", {"method.r": [8, 24], "method.init.mode": ["sign", "raw"]})
    assert published("sb-glue", {"compare": {"methods": methods}})[1] == [(24, 0.9012)]


def test_a_score_that_the_user_gives_stays():
    assert published("sb-glue", {"method": {"published": 0.5}, "training": {"epochs": 2}})[0] == 0.5


def test_the_table_of_mnist_has_its_nine_cells_under_the_published_schedule_alone():
    assert published("rac-mnist") == (None, [])
    assert published("rac-mnist", variant="quick") == (None, [])
    full = load_recipe("rac-mnist", variant="full")
    cells = {
        (method.name, method.side, getattr(method.schedule, "sketch", None)): method.published
        for method in full.compare.methods
        if method.published is not None
    }
    assert cells == {
        ("full", None, None): 0.980,
        ("lora", "both", "gaussian"): 0.838,
        ("cola", "both", "gaussian"): 0.926,
        ("asymm-lora", "right", "gaussian"): 0.623,
        ("rac-lora", "right", "gaussian"): 0.920,
        ("lora", "both-left", "gaussian"): 0.870,
        ("cola", "both-left", "gaussian"): 0.962,
        ("asymm-lora", "left", "gaussian"): 0.816,
        ("rac-lora", "left", "gaussian"): 0.961,
    }
