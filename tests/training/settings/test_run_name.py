"""The name of a run: another for other settings, and the old one for what is as it was."""

from __future__ import annotations

import pytest

from rankwise.training.settings.recipe import load_recipe


def name_of(recipe, **overrides):
    return load_recipe(recipe, overrides).run().name


# As version 0.1 named them, before there were settings that came later.
@pytest.mark.parametrize(
    ("recipe", "overrides", "name"),
    [
        ("digits", {}, "lora-r4-lr0.01-s0-dbf47bed"),
        ("digits", {"method": {"name": "rac-lora"}}, "rac-lora-r2-lr0.01-s0-734a8b55"),
        ("digits", {"method": {"name": "delora"}}, "delora-r4-lr0.01-s0-7c8b0739"),
        ("rac-mnist", {}, "rac-lora-r1-lr0.003-s0-1976a58d"),
        ("delora-glue", {"training": {"group_by_length": True}}, "delora-r8-lr0.03-s0-c0909a9f"),
        ("digits", {"method": {"name": "asymm-lora"}}, "asymm-lora-r2-lr0.01-s0-de08b078"),
        (
            "digits",
            {"method": {"name": "lora-sb", "init": {"sampling": "first"}}},
            "lora-sb-r11-lr0.01-s0-2991d349",
        ),
    ],
)
def test_a_run_that_is_as_it_was_keeps_its_name(recipe, overrides, name):
    assert name_of(recipe, **overrides) == name


def test_rows_that_are_drawn_make_another_run_than_the_first_rows():
    drawn, first = (
        name_of("digits", method={"name": "lora-sb", "init": {"sampling": sampling}})
        for sampling in ("random", "first")
    )
    assert drawn != first


def test_how_rows_of_a_gradient_are_drawn_is_no_part_of_a_run_without_one():
    plain, odd = (
        name_of("digits", method={"name": "rac-lora", "schedule": {"gradient_sampling": sampling}})
        for sampling in ("random", "first")
    )
    assert plain == odd


def test_what_a_paper_reports_and_who_is_told_make_no_other_run():
    plain = name_of("digits")
    assert name_of("digits", method={"published": 0.5}) == plain
    assert name_of("digits", training={"report_to": ["tensorboard"], "loop": "trainer"}) == name_of(
        "digits", training={"loop": "trainer"}
    )
