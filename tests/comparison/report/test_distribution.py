"""An ablation is drawn as one box a value, over all its runs, and told in words."""

from __future__ import annotations

import pytest

from rankwise.comparison.report.distribution import draw, spread_of, tell
from tests.comparison import made_records as made

ROWS = [made.row(f"margin={value}") for value in range(3)]
RUNS = [
    made.run("margin=0", 0.5, seed=0),
    made.run("margin=0", 0.7, seed=1),
    made.run("margin=0", 0.6, seed=2),
    made.run("margin=1", 0.8),
    # A failed run has no score.
    made.failed_run("margin=2"),
]


def comparison(runs):
    return made.comparison(ROWS, runs, baseline="margin=0", varied=("method.init.margin",))


def test_a_box_holds_every_run_of_its_value():
    boxes = draw(comparison(RUNS), None).data
    assert [box.name for box in boxes] == ["margin=0", "margin=1"]
    assert list(boxes[0].x) == [0.5, 0.6, 0.7]
    assert all(box.boxpoints == "all" for box in boxes)


def test_the_axes_name_what_was_varied_and_the_score():
    layout = draw(comparison(RUNS), None).layout
    assert layout.annotations[0].text == "method.init.margin"
    assert layout.xaxis.title.text == "validation accuracy"


def test_a_failed_run_leaves_no_point():
    assert spread_of(ROWS[2], comparison(RUNS)) == []


@pytest.mark.parametrize(
    ("runs", "text"),
    [
        (RUNS, "margin=0: median 0.600, 0.500 to 0.700 in 3 runs; margin=1: median 0.800"),
        ([], "nothing to draw"),
    ],
)
def test_it_is_told_in_words(runs, text):
    assert text in tell(comparison(runs), None)
