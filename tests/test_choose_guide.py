"""What the guide to a first choice has one type is a run; its numbers are those of the results."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from rankwise.cli.overrides import split_options
from rankwise.training.settings.recipe import load_recipe

DOCS = Path(__file__).resolve().parents[1] / "docs"
GUIDE = (DOCS / "guides" / "choose.md").read_text(encoding="utf-8")
WORDS = re.findall(r"`(--method\.name [^`]+)`", GUIDE)
INTERVALS = re.findall(r"(?<![\d.])(\.\d{3}) – (\.\d{3})", GUIDE)


def test_the_guide_says_what_to_type_and_what_was_measured():
    assert len(WORDS) == 5
    assert len(INTERVALS) == 25


@pytest.mark.parametrize("words", WORDS)
def test_what_is_to_be_typed_is_a_run(words):
    overrides, rest = split_options(
        shlex.split(words), declared={}, sections=("method", "training")
    )
    assert not rest
    assert load_recipe("digits", overrides).run().method.name == words.split()[1]


@pytest.mark.parametrize(("low", "high"), INTERVALS)
def test_an_interval_stands_in_the_results(low, high):
    results = "".join(
        (DOCS / "results" / name).read_text(encoding="utf-8") for name in ("vision.md", "glue.md")
    )
    assert f"0{low} – 0{high}" in results
