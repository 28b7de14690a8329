"""Score over rank: a line for each method of several ranks, a level for those without one."""

from __future__ import annotations

from rankwise.comparison.report import ranks
from tests.comparison import made_records as made


def row(name, r, score, *, side=None):
    bounds = {"score_low": score - 0.1, "score_high": score + 0.1}
    return made.row(name, r=r, side=side, budget=str(r), score_mean=score, **bounds)


ROWS = [
    row("full", None, 0.9),
    row("lora", 8, 0.8),
    row("lora", 2, 0.6),
    row("rac", 2, 0.7, side="left"),
    row("rac", 4, 0.75, side="left"),
    row("rac", 2, 0.5, side="right"),
    made.failed_row("delora", r=2, budget="2"),
    row("delora", 4, 0.4),
]
COMPARISON = made.comparison(ROWS, [made.run()])


def test_a_line_has_the_ranks_of_one_method_and_side_in_order():
    lines = {(line.name, line.side): each for line, each in ranks.lines_of(COMPARISON)}
    assert lines["lora", None].x == (2, 8)
    assert lines["lora", None].mean == (0.6, 0.8)
    assert lines["rac", "left"].x == (2, 4)
    # One rank is no line, and a failed row has no score.
    assert not {("rac", "right"), ("delora", None)} & lines.keys()


def test_a_method_without_a_rank_is_level_over_all_of_them():
    (full,) = [each for line, each in ranks.lines_of(COMPARISON) if line.name == "full"]
    assert (full.x, full.mean) == ((2, 8), (0.9, 0.9))


def test_one_rank_alone_gives_nothing_to_draw():
    alone = made.comparison(ROWS[:2])
    assert ranks.lines_of(alone) == []
    assert ranks.tell(alone, None) == "There is nothing to draw."


def test_the_figure_has_a_line_and_a_name_each_and_the_ranks_as_ticks():
    figure = ranks.draw(COMPARISON, None)
    roles = [trace.meta["role"] for trace in figure.data]
    assert roles == ["line"] * 3 + ["label"] * 3
    assert list(figure.layout.xaxis.ticktext) == ["2", "4", "8"]
    assert "rac" in figure.data[4].text[1]


def test_the_ends_of_each_line_are_told_in_words():
    words = ranks.tell(COMPARISON, None)
    assert words.startswith("lora: 0.600 at 2, 0.800 at 8; rac, left: 0.700 at 2")
