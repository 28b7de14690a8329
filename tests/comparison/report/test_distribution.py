"""An ablation is drawn as one box a value, over all its runs, and told in words."""

from __future__ import annotations

import pytest

from rankwise.comparison.report.distribution import distribution, spread_of, told


def row(name):
    return {"name": name, "r": 4, "side": None, "budget": ""}


def run(name, score):
    return {"method": row(name), "metric": "accuracy", "score_validation": score, "status": "done"}


SUMMARY = {
    "protocol": {"baseline": "margin=0", "varied": ["method.init.margin"]},
    "methods": [row("margin=0"), row("margin=1"), row("margin=2")],
}
RUNS = [
    run("margin=0", 0.5),
    run("margin=0", 0.7),
    run("margin=0", 0.6),
    run("margin=1", 0.8),
    # A failed run has no score.
    {"method": row("margin=2"), "status": "failed"},
]


def test_a_box_holds_every_run_of_its_value():
    boxes = distribution(SUMMARY, RUNS).data
    assert [box.name for box in boxes] == ["margin=0", "margin=1"]
    assert list(boxes[0].x) == [0.5, 0.6, 0.7]
    assert all(box.boxpoints == "all" for box in boxes)


def test_the_axes_name_what_was_varied_and_the_score():
    layout = distribution(SUMMARY, RUNS).layout
    assert layout.annotations[0].text == "method.init.margin"
    assert layout.xaxis.title.text == "validation accuracy"


def test_a_failed_run_leaves_no_point():
    assert spread_of(SUMMARY["methods"][2], RUNS) == []


@pytest.mark.parametrize(
    ("runs", "text"),
    [
        (RUNS, "margin=0: median 0.600, 0.500 to 0.700 in 3 runs; margin=1: median 0.800"),
        ([], "nothing to draw"),
    ],
)
def test_it_is_told_in_words(runs, text):
    assert text in told(SUMMARY, runs)
