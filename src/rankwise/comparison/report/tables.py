"""The table of the report: for each cell the text that is read and the value that it sorts by."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from rankwise.comparison.report import series
from rankwise.comparison.report.series import Row, Run

ABSENT = "–"
STARTS = {
    "relative_strength": "‖ΔW₀‖ / ‖W‖",
    "captured_before": "Gradient followed before",
    "captured_after": "Gradient followed after",
    "match_before": "Boundaries met before",
    "match_after": "Boundaries met after",
}
"""What an init reports of each layer, and the headings of its averages."""


@dataclass(frozen=True)
class Column:
    """A measured column: the key of its value in a row, its heading, and how a value is written."""

    key: str
    title: str
    write: Callable[[float], str]
    falling_first: bool = False


@dataclass(frozen=True)
class Cell:
    """What a cell shows; ``value`` is ``None`` where nothing was measured, and then sorts last."""

    text: str
    value: float | None
    interval: str = ""


@dataclass(frozen=True)
class Line:
    """A row of the table; ``extent`` is its low, mean and high in percent of the common scale."""

    row: Row
    label: str
    cells: list[Cell]
    extent: tuple[float, float, float] | None
    is_best: bool


@dataclass(frozen=True)
class Group:
    """The rows of one budget, best first, and where the baseline's mean is on the common scale."""

    budget: str
    lines: list[Line]
    baseline: float | None


def size(count: float) -> str:
    """Write a number of bytes with three digits: ``1.2 kB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def duration(seconds: float) -> str:
    """Write a time in a fitting unit: ``42 ms``, ``4.2 s``, ``3 min 05 s``, ``2 h 10 min``."""
    if seconds < 0.9995:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def signed(difference: float) -> str:
    """Write a difference with its sign, a typographic minus included: ``−0.012``."""
    return f"{difference:+.3f}".replace("-", "−")


def columns(summary: dict[str, Any], metric: str) -> list[Column]:
    """List the columns that at least one row has a value for."""
    baseline = summary["protocol"]["baseline"]
    known = [
        Column("score_mean", f"Test {metric}", "{:.3f}".format, falling_first=True),
        Column("published", "In the paper", "{:.3f}".format, falling_first=True),
        Column("difference_mean", f"Against {baseline}", signed, falling_first=True),
        Column("difference_rows_mean", "Other rows too", signed, falling_first=True),
        Column("score_validation", "Validation", "{:.3f}".format, falling_first=True),
        Column("learning_rate", "Learning rate", "{:g}".format),
        Column("trainable_parameters", "Trainable parameters", "{:,}".format),
        Column("stored_bytes", "Stored", size),
        Column("peak_memory_bytes", "Peak memory", size),
        Column("steps_to_baseline", f"Steps to {baseline}’s score", "{:,}".format),
        Column("samples_to_baseline", "Samples to it", "{:,}".format),
        Column("seconds_to_baseline", "Time to it", duration),
        Column("init_seconds", "Initialise", duration),
        Column("train_seconds", "Train", duration),
        Column("sweep_seconds", "All runs", duration),
    ]
    rows = summary["methods"]
    return [col for col in known if any(series.is_number(row.get(col.key)) for row in rows)]


def groups(summary: dict[str, Any], shown: list[Column]) -> list[Group]:
    """Make the table: one group a budget in order of appearance, failed rows at the end of each."""
    scale = _scale(summary["methods"])
    made = []
    for budget in series.budgets(summary["methods"]):
        rows = [row for row in summary["methods"] if series.budget_of(row) == budget]
        rows.sort(key=lambda row: -row["score_mean"] if series.is_scored(row) else math.inf)
        best = series.best_of_budget(rows, budget)
        lines = [
            Line(
                row,
                label=series.label(row),
                cells=[_cell(row, column) for column in shown],
                extent=_extent(row, scale),
                is_best=row is best,
            )
            for row in rows
        ]
        made.append(Group(budget, lines, _baseline(lines, summary["protocol"]["baseline"])))
    return made


def equal_ranks(summary: dict[str, Any], metric: str) -> tuple[list[str], list[dict[str, Any]]]:
    """Make the table at equal rank.

    Returns:
        The headings, and for each r its verdict and its lines: a name, then what tells rows of one
        name apart, then one cell for each heading.
    """
    shown = [
        Column("score_mean", f"Test {metric}", "{:.3f}".format),
        Column("difference_mean", f"Against {summary['protocol']['baseline']}", signed),
        Column("trainable_parameters", "Trainable parameters", "{:,}".format),
    ]
    entries = []
    for entry in summary.get("equal_rank", []):
        lines = [
            (row["name"], [_aside(row), *(_cell(row | {"status": "ok"}, col) for col in shown)])
            for row in entry["rows"]
        ]
        entries.append({"r": entry["r"], "verdict": entry["verdict"], "lines": lines})
    return [column.title for column in shown], entries


def _aside(row: Row) -> str:
    return ", ".join(str(row[key]) for key in ("side", "budget") if row[key])


def starts(summary: dict[str, Any], runs: list[Run]) -> tuple[list[str], dict[str, list[str]]]:
    """Average what the inits reported of their layers, over the layers of the chosen runs.

    Returns:
        The headings of what was measured, and by the label of each row that has an init one text
        for each heading.
    """
    layers = {}
    for row in summary["methods"]:
        reports = [run["init"] for run in series.chosen_runs(row, runs) if run.get("init")]
        layers[series.label(row)] = [
            part for r in reports for part in (*r["layers"], *r["monitored"])
        ]
    means = {
        label: {key: _mean_of(parts, key) for key in STARTS}
        for label, parts in layers.items()
        if parts
    }
    keys = [key for key in STARTS if any(row[key] != ABSENT for row in means.values())]
    return [STARTS[key] for key in keys], {
        label: [row[key] for key in keys] for label, row in means.items()
    }


def _mean_of(layers: list[dict[str, Any]], key: str) -> str:
    values = [layer[key] for layer in layers if series.is_number(layer.get(key))]
    return f"{fmean(values):.3f}" if values else ABSENT


def _cell(row: Row, column: Column) -> Cell:
    value = row.get(column.key)
    if not series.is_number(value):
        unreached = column.key.endswith("_to_baseline") and series.is_scored(row)
        return Cell("not reached" if unreached else ABSENT, None)
    return Cell(column.write(value), value, _interval(row, column))


def _interval(row: Row, column: Column) -> str:
    quantity = column.key.removesuffix("_mean")
    bounds = [row.get(f"{quantity}_{end}") for end in ("low", "high")]
    return " to ".join(column.write(bound) for bound in bounds if series.is_number(bound))


def _bounds(row: Row) -> tuple[float, float, float]:
    mean, low, high = row["score_mean"], row["score_low"], row["score_high"]
    return low if series.is_number(low) else mean, mean, high if series.is_number(high) else mean


def _scale(rows: list[Row]) -> tuple[float, float]:
    scores = [bound for row in rows if series.is_scored(row) for bound in _bounds(row)]
    return min(scores, default=0.0), max(scores, default=1.0)


def _extent(row: Row, scale: tuple[float, float]) -> tuple[float, float, float] | None:
    if not series.is_scored(row):
        return None
    length = scale[1] - scale[0] or 1.0
    low, mean, high = (100 * (bound - scale[0]) / length for bound in _bounds(row))
    return low, mean, high


def _baseline(lines: list[Line], name: str) -> float | None:
    extents = [line.extent for line in lines if line.row["name"] == name and line.extent]
    return extents[0][1] if extents else None
