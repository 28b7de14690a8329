"""The columns of a comparison's table."""

from __future__ import annotations

from rankwise.comparison.report.columns import columns
from tests.comparison import made_records as made
from tests.comparison.report_records import made_up_comparison


def test_a_column_without_a_single_value_is_left_out():
    titles = [column.title for column in columns(made_up_comparison())]
    assert titles[0] == "Test accuracy"
    assert "In the paper" not in titles
    assert "Stored" in titles
    published = made.comparison([made.row(published=0.7)])
    assert "In the paper" in [column.title for column in columns(published)]
