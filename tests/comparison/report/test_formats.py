"""The table leaves as CSV with full numbers, and as Markdown and LaTeX as it is shown."""

from __future__ import annotations

import csv
import io

import pytest

from rankwise.comparison.report.formats import FORMATS, as_csv, as_latex, as_markdown, downloads
from tests.comparison import made_records as made

COMPARISON = made.comparison(
    [
        made.row("lora", score_mean=0.5, score_low=0.4, score_high=0.6),
        made.row(
            "a_b|c",
            score_mean=0.61234,
            settings={"adapter.alpha": 16},
            difference_mean=-0.1,
            difference_low=-0.2,
            difference_high=-0.01,
        ),
        made.failed_row("cola", budget="50%"),
    ],
    metric="accuracy",
)


def test_csv_has_every_number_in_full_and_empty_cells_where_nothing_was_measured():
    rows = list(csv.DictReader(io.StringIO(as_csv(COMPARISON))))
    assert [row["method"] for row in rows] == ["lora", "a_b|c", "cola"]
    assert rows[1]["Test accuracy"] == "0.61234"
    assert rows[1]["settings"] == "alpha 16"
    assert (rows[1]["Against lora low"], rows[1]["Against lora high"]) == ("-0.2", "-0.01")
    assert rows[0]["Against lora"] == ""
    assert (rows[2]["status"], rows[2]["Test accuracy"]) == ("failed", "")


def test_markdown_has_one_row_a_method_and_no_markup_of_names():
    heading, alignment, *rows = as_markdown(COMPARISON).splitlines()
    assert heading.startswith("| Budget | Method | Test accuracy |")
    assert alignment.startswith("| :-- | :-- | --: |")
    assert len(rows) == 3
    assert "a\\_b\\|c r=2 alpha 16" in rows[0]
    assert "0.612" in rows[0]
    assert "−0.100 (−0.200 to −0.010)" in rows[0]


def test_latex_is_a_table_of_booktabs_with_escaped_names():
    text = as_latex(COMPARISON)
    assert text.startswith(r"\begin{tabular}{ll")
    assert r"a\_b|c r=2 alpha 16 & 0.612 & $-$0.100 ($-$0.200 to $-$0.010)" in text
    assert r"50\% & cola r=2 (failed)" in text
    assert text.count(r"\midrule") == 2


def test_a_page_offers_each_format():
    assert [each.text for each in downloads(COMPARISON)] == [
        write(COMPARISON) for write in FORMATS.values()
    ]


@pytest.mark.parametrize("write", FORMATS.values(), ids=FORMATS)
def test_every_row_has_as_many_cells_as_there_are_headings(write):
    separator = {as_csv: ",", as_markdown: " | ", as_latex: " & "}[write]
    lines = [line for line in write(COMPARISON).splitlines() if separator in line]
    assert len({line.count(separator) for line in lines}) == 1
