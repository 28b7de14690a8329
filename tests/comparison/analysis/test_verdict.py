"""What is said of a budget: what differs, what could have been shown, where seeds would help."""

from __future__ import annotations

from rankwise.comparison.analysis.verdict import verdict
from rankwise.pages.writing import points
from tests.comparison import made_records as made


def row(name, low, high, **more):
    mean = (low + high) / 2
    bounds = {"difference_mean": mean, "difference_low": low, "difference_high": high}
    return made.row(name, **bounds, **more)


def test_what_is_not_significant_is_told_with_what_could_have_been_shown():
    rows = [
        row("cola", 0.01, 0.02),
        row("delora", -0.01, 0.03, detectable_difference=0.04, seeds_needed=14),
        row("lora-xs", -0.01, 0.01, detectable_difference=0.06, seeds_needed=None),
        row("lora-sb", -0.01, 0.01, detectable_difference=0.05, seeds_needed=150),
    ]
    (sentence,) = verdict(rows, baseline="lora")
    assert "significantly better: cola;" in sentence
    assert "a true difference of about 5.0 points had a chance of 80 % to be shown" in sentence
    assert sentence.endswith("Worth more seeds: delora (14).")


def test_a_difference_that_no_score_can_have_is_not_told_as_a_size():
    (sentence,) = verdict([row("cola", -1.3, 1.3, detectable_difference=1.69)], baseline="lora")
    assert "points had" not in sentence
    assert sentence.endswith("more seeds or more test rows are needed.")


def test_where_all_differ_no_power_is_told():
    (sentence,) = verdict([row("cola", 0.01, 0.02)], baseline="lora")
    assert sentence.endswith("no significant difference for 0 of 1 methods.")


def test_points_are_hundredths_with_a_sign():
    assert (points(0.0912), points(-0.005), points(None)) == ("+9.1", "−0.5", "–")
