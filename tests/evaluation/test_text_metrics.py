"""Metrics of written texts: their definitions, and what is missing counts as wrong."""

from __future__ import annotations

import importlib.util

import pytest

from rankwise.core.errors import DataError, SettingsError
from rankwise.evaluation.own_metrics import find_metric
from rankwise.evaluation.text_metrics import exact_match


def test_an_exact_match_minds_every_letter_and_no_blanks():
    assert exact_match([" a  cat\n", "A cat", "a cat."], ["a cat"] * 3) == pytest.approx(1 / 3)
    assert exact_match([None], [""]) == 0


@pytest.mark.parametrize(
    ("name", "expected"),
    # Three of four words each, two of three pairs each way; the longest common run of words is 3.
    [("rouge1", 3 / 4), ("rouge2", 1 / 3), ("rougeL", 3 / 4)],
)
def test_rouge_is_the_f_measure_of_words_pairs_and_common_runs(name, expected):
    compute = find_metric(name).compute
    assert compute(["the cat was here"], ["the cats sat here"]) == pytest.approx(expected)
    assert compute(["the cat was here", None], ["the cats sat here", "x"]) == pytest.approx(
        expected / 2
    )


def test_rouge_asks_for_its_package(monkeypatch):
    find_metric.cache_clear()
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(SettingsError, match=r"rougeL needs the package rouge-score: pip install"):
        find_metric("rougeL")


@pytest.mark.parametrize("name", ["exact_match", "rouge1", "entity_f1", "word_accuracy"])
def test_rows_without_a_counterpart_are_refused(name):
    with pytest.raises(DataError, match="a metric needs one"):
        find_metric(name).compute([], [])
    with pytest.raises(DataError, match="a metric needs one"):
        find_metric(name).compute(["a"], ["a", "b"])
