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


def test_what_rounds_to_zero_has_no_minus_in_any_column():
    row = made.row(
        score_mean=-1e-5,
        difference_mean=-1e-5,
        effect_size=-0.01,
        forgetting_mean=-1e-5,
        score_validation=-1e-5,
    )
    written = [
        column.write(value)
        for column in columns(made.comparison([row]))
        if (value := column.value(row)) is not None and abs(value) < 0.05
    ]
    assert sorted(written) == ["+0.000", "+0.000", "0.0", "0.000", "0.000"]


def test_a_negative_effect_has_a_typographic_minus():
    row = made.row(effect_size=-1.26)
    (effect,) = [each for each in columns(made.comparison([row])) if each.title == "Effect size"]
    assert effect.write(-1.26) == "−1.3"


def test_the_column_of_forgetting_says_what_was_measured():
    compared = made.comparison([made.row(forgetting_mean=0.1)], retention="loss on general text")
    (lost,) = [each for each in columns(compared) if each.title == "Forgetting"]
    assert "loss on general text" in lost.meaning
    assert lost.write(0.1) == "+0.100"
