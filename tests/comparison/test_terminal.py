"""The table shows each method with its interval, and why one failed."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from rankwise.comparison.terminal import remarks, summary_table

ROW = {
    "name": "lora",
    "r": 4,
    "side": None,
    "budget": "1200",
    "status": "ok",
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
    "warnings": [],
}


def shown(*rows):
    console = Console(width=200, file=io.StringIO())
    console.print(
        summary_table({"task": "digits", "protocol": {"baseline": "lora"}, "methods": list(rows)})
    )
    return console.file.getvalue()


@pytest.mark.parametrize(
    "text", ["lora", "1,300", "5,200", "0.961", "0.940 – 0.980", "85", "0.75", "12.3"]
)
def test_a_row_shows_its_numbers(text):
    assert text in shown(ROW)


def test_a_single_seed_shows_no_interval():
    assert "one seed" in shown(ROW | {"score_low": None, "score_high": None})


def test_a_baseline_that_was_never_reached_says_so():
    assert "never" in shown(ROW | {"steps_to_baseline": None})


def test_rows_stand_under_their_budget():
    text = shown(ROW, ROW | {"name": "delora", "budget": "300"})
    assert text.index("1200") < text.index(" lora") < text.index("300 ") < text.index("delora")


def test_the_papers_scores_stand_beside_ours_where_there_are_any():
    assert "paper" not in shown(ROW)
    text = shown(ROW | {"published": 0.838}, ROW)
    assert "paper" in text
    assert "0.838" in text


def test_a_failed_method_says_why():
    row = ROW | {"status": "failed: no module matched"}
    assert "failed" in shown(row)
    assert remarks({"methods": [ROW, row]}) == ["lora (r=4) failed: no module matched"]


def test_warnings_are_told():
    row = ROW | {"warnings": ["the best learning rate 1 is still at the edge of its grid"]}
    (sentence,) = remarks({"methods": [ROW, row]})
    assert sentence.startswith("lora (r=4): the best learning rate 1 is still")
