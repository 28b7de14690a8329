"""The table shows each method with its difference in 100 columns, and why one failed."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from rankwise.comparison.records import DroppedPoint
from rankwise.comparison.terminal import WIDTH, remarks, summary_table, tuning
from tests.comparison import made_records as made


def row(name="lora", *, budget="1200", **measured):
    known = {"trainable_parameters": 1300, "learning_rate": 0.01, "score_mean": 0.9612}
    return made.row(name, r=4, budget=budget, **known | measured)


def against(mean, low=None, high=None):
    return {"difference_mean": mean, "difference_low": low, "difference_high": high}


def shown(*rows, width=WIDTH):
    console = Console(width=width, file=io.StringIO())
    console.print(summary_table(made.summary(rows)))
    return console.file.getvalue()


@pytest.mark.parametrize("text", ["lora r=4", "1,300", "0.01", "0.961", "−9.1 (−12.0 to −6.2)"])
def test_a_row_shows_its_numbers(text):
    assert text in shown(row(**against(-0.091, -0.12, -0.062)))


def test_a_single_seed_shows_no_interval():
    assert "+3.0 (one seed)" in shown(row(**against(0.03)))


def test_rows_stand_under_their_budget():
    text = shown(row(), row("delora", budget="300"))
    places = [text.index(each) for each in ("budget 1200", "lora r", "budget 300", "delora")]
    assert places == sorted(places)


def test_bars_share_a_scale_with_the_baseline_in_their_middle():
    text = shown(
        row(),
        row("better", **against(0.10, 0.05, 0.15)),
        row("level", **against(0.0, -0.15, 0.15)),
        row("worse", **against(-0.10, -0.15, -0.05)),
    )
    better, level, worse = (
        next(line for line in text.splitlines() if line.strip().startswith(name))
        for name in ("better", "level", "worse")
    )
    middle = level.index("○")
    assert level[middle - 10 : middle + 11] == "─" * 10 + "○" + "─" * 10
    assert better.index("│") == worse.index("│") == middle
    assert worse.index("●") < middle < better.index("●")


def test_it_fits_a_hundred_columns_however_long_a_name_is():
    text = shown(
        row("a-method-with-a-name-that-goes-on-and-on", side="right", **against(-0.5, -0.9, 0.9)),
        row("peft", published=0.838, trainable_parameters=124_000_000, learning_rate=0.000125),
    )
    assert max(map(len, text.splitlines())) <= WIDTH
    assert "…" in text


def test_the_papers_scores_stand_beside_ours_where_there_are_any():
    assert "paper" not in shown(row())
    text = shown(row(published=0.838), row())
    assert "paper" in text
    assert "0.838" in text


def test_a_failed_method_says_why():
    failed = made.failed_row("delora", r=4, budget="1200", error="no module matched")
    assert "failed" in shown(failed)
    assert remarks(made.summary([row(), failed])) == ["delora r=4 failed: no module matched"]


def test_warnings_are_told():
    warned = row(warnings=("the best learning rate 1 is still at the edge of its grid",))
    (sentence,) = remarks(made.summary([row(), warned]))
    assert sentence.startswith("lora r=4: the best learning rate 1 is still")


def test_names_are_shown_as_they_are_written():
    text = shown(row("a[/b]"), made.failed_row("[red]c", budget="[bold]300[/x]"))
    assert "a[/b]" in text
    assert "[red]c" in text
    assert "[bold]300[/x]" in text


def test_what_choosing_has_cost_is_told():
    dropped = (DroppedPoint(learning_rate=1.0, seeds=2, behind=0.1, chance=0.001),)
    rows = [
        row(tuning_runs=15, tuning_seconds=2.0),
        row("full", tuning_runs=12, tuning_seconds=3.0, dropped=dropped),
        row("peft"),
    ]
    (sentence,) = tuning(made.summary(rows))
    assert sentence.startswith(
        "tuning: 12 to 15 runs a method, 5 s of runs in all; 1 settings left"
    )
    assert tuning(made.summary([row()])) == []
