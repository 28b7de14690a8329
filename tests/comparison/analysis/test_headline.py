"""The finding in one sentence."""

from __future__ import annotations

from rankwise.comparison.analysis.headline import headline
from rankwise.comparison.analysis.verdict import NOTHING
from tests.comparison import made_records as made


def row(name, difference, half=0.01, *, budget="300", **identity):
    return made.row(
        name,
        budget=budget,
        difference_mean=difference,
        difference_low=difference - half,
        difference_high=difference + half,
        **identity,
    )


def said(*rows):
    return headline(rows, baseline="lora")


def test_what_differs_is_said_by_budget_with_how_much():
    text = said(
        made.row("lora"),
        row("cola", 0.102),
        row("lora-sb", 0.083),
        row("rac-lora", 0.107),
        row("lora-xs", 0.005),
        made.row("lora", budget="1200"),
        row("cola", 0.0, budget="1200"),
    )
    assert text == (
        "At 300 parameters rac-lora, cola and lora-sb beat lora by 8 to 11 points; "
        "at 1,200 parameters nothing differs from lora."
    )


def test_worse_methods_fall_behind_and_small_differences_have_a_decimal():
    text = said(
        made.row("lora"),
        row("cola", 0.0148),
        row("delora", -0.0213),
        row("lora", 0.0, budget="papers"),
        row("rac-lora", 0.0, budget="papers"),
    )
    assert text == (
        "At 300 parameters cola beats lora by 1.5 points, delora falls behind lora by 2 points; "
        "in budget papers nothing differs from lora."
    )


def test_rows_that_are_alone_in_their_budget_are_left_to_the_headroom():
    assert said(row("full", 0.2, budget="full", r=None)) == NOTHING


def test_nothing_at_all_is_said_once():
    rows = [made.row("lora"), row("cola", 0.0), made.row("lora", budget="9"), row("xs", 0.0)]
    assert said(*rows) == "No method differs significantly from lora."


def test_without_budgets_there_is_no_place():
    text = said(made.row("lora", budget=""), row("rac-lora", 0.05, budget="", side="left"))
    assert text == "rac-lora beats lora by 5 points."


def test_one_seed_is_no_evidence():
    assert said(made.row("lora"), made.row("cola")) == NOTHING
