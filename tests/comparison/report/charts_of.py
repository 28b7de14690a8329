"""What the tests of the charts read from a figure."""

from __future__ import annotations

from tests.comparison.report_records import made_up_comparison

COMPARISON = made_up_comparison()


def traces(figure, role):
    """The traces of a figure that play ``role``, by their name."""
    return {trace.name: trace for trace in figure.data if trace.meta["role"] == role}


def row_of(label, budget="300"):
    """The row of the made-up summary with this label."""
    rows = [row for row in COMPARISON.rows if row.budget == budget]
    return next(row for row in rows if row.label == label)


def labels_in(*shown):
    """The labels of the scored rows in the budgets ``shown``."""
    return {row.label for row in COMPARISON.scored if row.budget in shown}


def labels_told(caption):
    """The labels that a caption lists, in its order."""
    _, items = caption.rstrip(".").split(". ", 1)
    return [item.rsplit(": ", 1)[0] for item in items.split("; ")]
