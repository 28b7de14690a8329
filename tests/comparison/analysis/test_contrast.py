"""Over seeds and test rows at once: what is paired, and what cannot be."""

from __future__ import annotations

import pytest

from rankwise.comparison.analysis.verdict import verdict
from tests.comparison import made_records as made
from tests.comparison.analysis.test_summary import rows, run
from tests.comparison.analysis.test_summary import summary_of as summary_of_scores

LABELS = [0, 1] * 30


def answers(name, seed, wrong, *, labels=LABELS):
    """What a run predicted on test: its first ``wrong`` rows are wrong."""
    said = [1 - label if i < wrong else label for i, label in enumerate(labels)]
    return {"run": run(name, seed, [0.9]).run, "predictions": said, "labels": labels}


def summary_of(**tests):
    """The summary of methods whose runs of seed 0, 1, ... gave these answers."""
    curves = {name: [run(name, seed, [0.9]) for seed in range(len(t))] for name, t in tests.items()}
    scores = {name: [_accuracy(each) for each in found] for name, found in tests.items()}
    given = {
        each["run"]: {key: each[key] for key in ("predictions", "labels")}
        for found in tests.values()
        for each in found
    }
    return summary_of_scores(curves, scores, answers=given)


def _accuracy(given):
    right = [said == label for said, label in zip(given["predictions"], given["labels"])]
    return sum(right) / len(right)


def of(name, wrong, **options):
    return [answers(name, seed, count, **options) for seed, count in enumerate(wrong)]


def test_a_few_rows_decide_nothing_of_others_though_all_seeds_agree():
    tests = {"lora": of("lora", [8, 8, 9]), "delora": of("delora", [4, 4, 5])}
    summary = summary_of(**tests)
    row = rows(summary)["delora"]
    assert row.difference_low > 0
    assert row.difference_rows_mean == pytest.approx(row.difference_mean)
    assert row.difference_rows_low < 0 < row.difference_rows_high
    (sentence,) = summary.verdict
    assert sentence.endswith("Of these, significant over other test rows too: none.")


def test_many_rows_do():
    tests = {"lora": of("lora", [40, 40, 41]), "delora": of("delora", [4, 4, 5])}
    summary = summary_of(**tests)
    assert rows(summary)["delora"].difference_rows_low > 0
    assert summary.verdict[0].endswith("significant over other test rows too: delora.")


def test_rows_that_differ_from_seed_to_seed_are_not_paired():
    tests = {"lora": of("lora", [6, 7]), "delora": of("delora", [4, 5])}
    tests["delora"][1]["labels"] = LABELS[::-1]
    summary = summary_of(**tests)
    assert rows(summary)["delora"].difference_rows_low is None


def test_nothing_is_said_of_other_rows_where_they_were_not_measured():
    row = made.row("delora", difference_low=1, difference_high=2)
    (sentence,) = verdict([row], baseline="lora")
    assert "other test rows" not in sentence


def test_seeds_that_agree_by_chance_are_no_surer_than_their_rows_allow():
    tests = {"lora": of("lora", [6, 6, 6]), "delora": of("delora", [5, 5, 5])}
    # Every seed has one row more right, and which one it is differs.
    for seed, given in enumerate(tests["delora"]):
        given["predictions"][:6] = [1 - label for label in LABELS[:6]]
        given["predictions"][seed] = LABELS[seed]
    row = rows(summary_of(**tests))["delora"]
    assert row.difference_mean == pytest.approx(1 / 60)
    assert row.difference_low < 0 < row.difference_high
    assert row.p_value > 0.05
