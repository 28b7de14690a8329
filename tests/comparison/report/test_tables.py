"""The table of the page: what is read, what it sorts by, and what is never made up."""

from __future__ import annotations

import pytest

from rankwise.comparison.report import series
from rankwise.comparison.report import tables as report_table
from rankwise.comparison.report.tables import Cell, columns, duration, groups, signed, size, starts
from tests.comparison.report_records import made_up_comparison

SUMMARY, RUNS = made_up_comparison()


def only(**measured):
    """A summary of one row, the first of the made-up ones, changed by ``measured``."""
    return SUMMARY | {"methods": [SUMMARY["methods"][1] | measured]}


def cell_of(summary, key):
    """The cell of a summary's first row in the column ``key``."""
    shown = columns(summary, "accuracy")
    (cell,) = [
        cell
        for cell, column in zip(groups(summary, shown)[0].lines[0].cells, shown)
        if column.key == key
    ]
    return cell


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (2108, "2.11 kB"),
        (999_600, "1 MB"),
        (5e6, "5 MB"),
        (7e12, "7 TB"),
    ],
)
def test_sizes(count, text):
    assert size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0031, "3 ms"),
        (0.9996, "1.0 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 00 s"),
        (185, "3 min 05 s"),
        (7800, "2 h 10 min"),
    ],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_differences_carry_their_sign():
    assert (signed(0.0123), signed(-0.0123)) == ("+0.012", "−0.012")


def test_a_column_without_a_single_value_is_left_out():
    keys = {column.key for column in columns(SUMMARY, "accuracy")}
    assert "published" not in keys
    assert "stored_bytes" in keys
    assert "peak_memory_bytes" in {c.key for c in columns(only(peak_memory_bytes=7), "accuracy")}


def test_rows_are_grouped_by_budget_best_first_and_failed_last():
    made = groups(SUMMARY, columns(SUMMARY, "accuracy"))
    assert [group.budget for group in made] == ["full", "300", "1200", "papers"]
    assert sum(len(group.lines) for group in made) == len(SUMMARY["methods"])
    small = [line.row for line in made[1].lines]
    scores = [row["score_mean"] for row in small[:-1]]
    assert scores == sorted(scores, reverse=True)
    assert small[-1]["status"].startswith("failed")


def test_one_row_of_each_contest_is_the_best():
    made = groups(SUMMARY, columns(SUMMARY, "accuracy"))
    best = [[line.is_best for line in group.lines] for group in made]
    assert best[0] == [False]
    assert all(marks[0] and sum(marks) == 1 for marks in best[1:])


def test_a_score_is_read_with_its_interval_and_sorts_by_its_mean():
    summary = only(score_mean=0.84219, score_low=0.8301, score_high=0.8549)
    assert cell_of(summary, "score_mean") == Cell("0.842", 0.84219, "0.830 to 0.855")


@pytest.mark.parametrize("bound", [None, float("nan")])
def test_a_score_of_one_seed_has_no_interval(bound):
    summary = only(score_mean=0.8, score_low=bound, score_high=bound)
    assert cell_of(summary, "score_mean") == Cell("0.800", 0.8, "")
    assert groups(summary, [])[0].lines[0].extent == (0.0, 0.0, 0.0)


def test_what_was_not_measured_is_a_dash_that_sorts_nowhere():
    failed = [row for row in SUMMARY["methods"] if row["status"] != "ok"]
    summary = SUMMARY | {"methods": [*failed, SUMMARY["methods"][0]]}
    assert cell_of(summary, "score_mean") == Cell(report_table.ABSENT, None)
    assert cell_of(summary, "steps_to_baseline") == Cell(report_table.ABSENT, None)


def test_a_score_that_was_never_reached_is_said_to_be_so():
    rows = [SUMMARY["methods"][1] | {"steps_to_baseline": None}, SUMMARY["methods"][2]]
    rows[1] = rows[1] | {"steps_to_baseline": 240}
    assert cell_of(SUMMARY | {"methods": rows}, "steps_to_baseline") == Cell("not reached", None)


def test_intervals_share_one_scale():
    made = groups(SUMMARY, [])
    extents = [line.extent for group in made for line in group.lines if line.extent]
    assert min(low for low, _, _ in extents) == pytest.approx(0)
    assert max(high for _, _, high in extents) == pytest.approx(100)
    assert all(low <= mean <= high for low, mean, high in extents)


def test_a_group_knows_where_its_own_baseline_stands():
    by_budget = {group.budget: group for group in groups(SUMMARY, [])}
    lines = by_budget["300"].lines
    (lora,) = [line for line in lines if line.row["name"] == "lora"]
    assert lora.extent is not None
    assert by_budget["300"].baseline == lora.extent[1]
    assert by_budget["papers"].baseline is None


def test_starts_are_means_over_layers_and_seeds_of_what_was_measured():
    headings, by_label = starts(SUMMARY, RUNS)
    assert headings == ["‖ΔW₀‖ / ‖W‖", "Gradient followed before", "Gradient followed after"]
    expected = ["0.030", "0.100", "0.600"]
    assert by_label == {"lora-sb r=11": expected, "lora-sb r=24": expected}


def test_without_inits_there_are_no_starts():
    assert starts(SUMMARY, [run | {"init": None} for run in RUNS]) == ([], {})


def test_every_label_of_the_table_is_that_of_its_row():
    lines = [line for group in groups(SUMMARY, []) for line in group.lines]
    assert all(line.label == series.label(line.row) for line in lines)
