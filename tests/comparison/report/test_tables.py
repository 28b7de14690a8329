"""The table of the page: what is read, what it sorts by, and what is never made up."""

from __future__ import annotations

import pytest

from rankwise.comparison.records import ComparedRow, EqualRank
from rankwise.comparison.report import tables
from rankwise.comparison.report.columns import columns
from rankwise.comparison.report.tables import Cell, equal_ranks, groups, starts
from tests.comparison import made_records as made
from tests.comparison.report_records import made_up_comparison, with_rows, with_runs

COMPARISON = made_up_comparison()


def cell_of(comparison, title):
    """The cell of a comparison's first row in the column ``title``."""
    shown = columns(comparison)
    (line, *_) = groups(comparison, shown)[0].lines
    (cell,) = [cell for cell, column in zip(line.cells, shown) if column.title == title]
    return cell


def test_rows_are_grouped_by_budget_best_first_and_failed_last():
    made = groups(COMPARISON, columns(COMPARISON))
    assert [group.budget for group in made] == ["full", "300", "1200", "papers"]
    assert sum(len(group.lines) for group in made) == len(COMPARISON.rows)
    small = [line.row for line in made[1].lines]
    scores = [row.score_mean for row in small[:-1]]
    assert scores == sorted(scores, reverse=True)
    assert small[-1].status == "failed"


def test_one_row_of_each_contest_is_the_best():
    made = groups(COMPARISON, columns(COMPARISON))
    best = [[line.is_best for line in group.lines] for group in made]
    assert best[0] == [False]
    assert all(marks[0] and sum(marks) == 1 for marks in best[1:])


def test_a_score_is_read_with_its_interval_and_sorts_by_its_mean():
    row = made.row(score_mean=0.84219, score_low=0.8301, score_high=0.8549)
    assert cell_of(made.comparison([row]), "Test score") == Cell("0.842", 0.84219, "0.830 to 0.855")


def test_a_score_of_one_seed_has_no_interval():
    alone = made.comparison([made.row(score_mean=0.8)])
    assert cell_of(alone, "Test score") == Cell("0.800", 0.8, "")
    assert groups(alone, [])[0].lines[0].extent == tables.Extent(0.0, 0.0, 0.0)


def test_what_was_not_measured_is_a_dash_that_sorts_nowhere():
    rows = [made.failed_row(), made.row("full", r=None, budget="full", steps_to_baseline=10)]
    comparison = made.comparison(rows)
    assert cell_of(comparison, "Test score") == Cell(tables.ABSENT, None)
    assert cell_of(comparison, "Steps to lora’s score") == Cell(tables.ABSENT, None)


def test_a_score_that_was_never_reached_is_said_to_be_so():
    rows = [made.row(), made.row("cola", budget="other", steps_to_baseline=240)]
    assert cell_of(made.comparison(rows), "Steps to lora’s score") == Cell("not reached", None)


def test_intervals_share_one_scale():
    made = groups(COMPARISON, [])
    extents = [line.extent for group in made for line in group.lines if line.extent]
    assert min(extent.low for extent in extents) == pytest.approx(0)
    assert max(extent.high for extent in extents) == pytest.approx(100)
    assert all(extent.low <= extent.mean <= extent.high for extent in extents)


def test_a_group_knows_where_its_own_baseline_stands():
    by_budget = {group.budget: group for group in groups(COMPARISON, [])}
    lines = by_budget["300"].lines
    (lora,) = [line for line in lines if line.row.name == "lora"]
    assert lora.extent is not None
    assert by_budget["300"].baseline == lora.extent.mean
    assert by_budget["papers"].baseline is None


def test_starts_are_means_over_layers_and_seeds_of_what_was_measured():
    headings, by_label = starts(COMPARISON)
    assert headings == ["‖ΔW₀‖ / ‖W‖", "Captured share before", "Captured share after"]
    expected = ["0.030", "0.100", "0.600"]
    assert by_label == {"lora-sb r=11": expected, "lora-sb r=24": expected}


def test_without_inits_there_are_no_starts():
    assert starts(with_runs(COMPARISON, COMPARISON.runs, init=None)) == ([], {})


def test_the_view_at_equal_rank_has_what_tells_rows_of_one_name_apart():
    rows = (
        ComparedRow(name="rac-lora", r=1, side="left", budget="300", score_mean=0.8),
        ComparedRow(name="lora", r=1, score_mean=0.7),
    )
    entry = EqualRank(r=1, rows=rows, verdict=("So it is.",))
    headings, (group,) = equal_ranks(with_rows(COMPARISON, [], equal_rank=(entry,)))
    assert headings == ["Test accuracy", "Against lora", "Trainable parameters"]
    assert [line.aside for line in group.lines] == ["left, 300", ""]
    assert [cell.text for cell in group.lines[0].cells] == ["0.800", tables.ABSENT, tables.ABSENT]
