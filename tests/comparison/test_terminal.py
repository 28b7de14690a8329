"""The table shows each method with its interval, and why one failed."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from rankwise.comparison.terminal import remarks, summary_table
from tests.comparison import made_records as made


def row(name="lora", *, budget="1200", **measured):
    known = {
        "trainable_parameters": 1300,
        "stored_bytes": 5200,
        "learning_rate": 0.01,
        "score_validation": 0.95,
        "score_mean": 0.9612,
        "score_low": 0.94,
        "score_high": 0.98,
        "init_seconds": 0.0,
        "train_seconds": 1.0,
        "steps_to_baseline": 85,
        "seconds_to_baseline": 0.75,
        "sweep_seconds": 12.3,
    }
    return made.row(name, r=4, budget=budget, **known | measured)


def shown(*rows):
    console = Console(width=200, file=io.StringIO())
    console.print(summary_table(made.summary(rows)))
    return console.file.getvalue()


@pytest.mark.parametrize(
    "text", ["lora", "1,300", "5,200", "0.961", "0.940 – 0.980", "85", "0.75", "12.3"]
)
def test_a_row_shows_its_numbers(text):
    assert text in shown(row())


def test_a_single_seed_shows_no_interval():
    assert "one seed" in shown(row(score_low=None, score_high=None))


def test_a_baseline_that_was_never_reached_says_so():
    assert "never" in shown(row(steps_to_baseline=None))


def test_rows_stand_under_their_budget():
    text = shown(row(), row("delora", budget="300"))
    assert text.index("1200") < text.index(" lora") < text.index("300 ") < text.index("delora")


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
