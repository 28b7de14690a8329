"""The charts in words: the same numbers, in the order in which one would say them."""

from __future__ import annotations

from rankwise.comparison.report import captions, series
from tests.comparison.report_records import made_up_comparison

SUMMARY, RUNS = made_up_comparison()


def labels_of(caption):
    """The labels that a caption lists, in its order."""
    _, items = caption.rstrip(".").split(". ", 1)
    return [item.rsplit(": ", 1)[0] for item in items.split("; ")]


def test_learning_curves_are_ranked_by_their_last_evaluation():
    caption = captions.learning_curves(SUMMARY, RUNS, "300")
    rows = {series.label(row): row for row in series.rows_in_view(SUMMARY["methods"], "300")}
    ends = [series.learning_curve(rows[name], RUNS).points[-1][1] for name in labels_of(caption)]
    assert len(ends) == 11
    assert ends == sorted(ends, reverse=True)
    assert f"; lora r=1: {rows['lora r=1']['score_validation']:.3f};" in caption


def test_the_front_is_told_with_its_parameters():
    caption = captions.score_by_parameters(SUMMARY)
    front = series.pareto_front(SUMMARY["methods"])
    assert labels_of(caption) == [series.label(row) for row in front]
    assert caption.endswith(f"full: {front[-1]['score_mean']:.3f} with 4,810.")


def test_learning_rates_are_ranked_by_what_the_worst_costs():
    caption = captions.score_by_learning_rate(SUMMARY, RUNS, "300")
    rows = {series.label(row): row for row in series.rows_in_view(SUMMARY["methods"], "300")}
    falls = []
    for name in labels_of(caption):
        scores = [mean for _, mean in series.learning_rate_sweep(rows[name], RUNS).points]
        falls.append(max(scores) - min(scores))
    assert len(falls) == 11
    assert falls == sorted(falls)
    assert caption.count("(runs failed at 1 more)") == 1


def test_an_empty_chart_says_so():
    assert captions.learning_curves(SUMMARY, [], "300") == captions.NOTHING
    assert captions.score_by_learning_rate(SUMMARY, [], "300") == captions.NOTHING
    assert captions.score_by_parameters(SUMMARY | {"methods": []}) == captions.NOTHING
