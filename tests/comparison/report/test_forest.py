"""A forest plot shows each difference with its interval, and which are significant."""

from __future__ import annotations

import pytest

from rankwise.comparison.report.forest import draw, rows_of, tell
from tests.comparison import made_records as made


def row(name, mean, low, high, **known):
    bounds = {"difference_mean": mean, "difference_low": low, "difference_high": high}
    return made.row(name, **bounds, **known)


ROWS = [
    made.row("lora"),
    row("cola", 0.01, -0.02, 0.04),
    row("rac-lora", 0.05, 0.02, 0.08),
    row("delora", -0.06, -0.09, -0.03),
    row("full", 0.07, 0.05, 0.09, r=None, budget="full"),
    row("lora-xs", 0.5, 0.4, 0.6, budget="1200"),
    made.row("lora", budget="1200"),
    made.row("one-seed"),
]
COMPARISON = made.comparison(ROWS)


def test_the_rows_of_each_budget_stand_the_best_first():
    found = {budget: [row.name for row in rows] for budget, rows in rows_of(COMPARISON)}
    assert found == {
        "300": ["rac-lora", "cola", "delora"],
        "full": ["full"],
        "1200": ["lora-xs"],
    }


def test_points_and_intervals_are_in_hundredths_and_filled_where_significant():
    marks = {trace.meta["method"]: trace for trace in draw(COMPARISON, None).data}
    mark = marks["rac-lora"]
    assert mark.x[0] == pytest.approx(5)
    assert (mark.error_x.array[0], mark.error_x.arrayminus[0]) == pytest.approx((3, 3))
    filled = {name for name, mark in marks.items() if mark.marker.symbol == "circle"}
    assert filled == {"full", "rac-lora", "delora", "lora-xs"}


def test_the_axis_holds_zero_and_every_interval():
    low, high = draw(COMPARISON, None).layout.xaxis.range
    assert low <= -9
    assert high >= 9


def test_it_is_told_in_words():
    text = tell(COMPARISON, None)
    assert "rac-lora r=2 (300): +5.0 (+2.0 to +8.0), significant" in text
    assert "cola r=2 (300): +1.0 (−2.0 to +4.0);" in text
    assert "full: +7.0" in text


def test_nothing_is_drawn_of_one_seed():
    alone = made.comparison([made.row("lora"), made.row("cola")])
    assert len(draw(alone, None).data) == 0
    assert "nothing to draw" in tell(alone, None)
