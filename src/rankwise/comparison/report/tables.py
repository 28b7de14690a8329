"""The tables of the page: for each cell the text that is read and the value that it sorts by."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from rankwise.comparison.records import ComparedRow, SummaryRow, by_budget
from rankwise.comparison.report.columns import ABSENT, Bounds, Column
from rankwise.comparison.report.comparison import Comparison, best_of
from rankwise.methods.inits.report import LayerStart, MonitoredLayer
from rankwise.pages.writing import signed


@dataclass(frozen=True)
class Cell:
    """What a cell shows; ``value`` is ``None`` where nothing was measured, and then sorts last."""

    text: str
    value: float | None
    interval: str = ""


@dataclass(frozen=True)
class Extent:
    """The low end, the mean and the high end of a score, in percent of the common scale."""

    low: float
    mean: float
    high: float


@dataclass(frozen=True)
class Line:
    """A row of the table; the cell of its score is drawn with ``extent``."""

    row: SummaryRow
    cells: list[Cell]
    extent: Extent | None
    is_best: bool


@dataclass(frozen=True)
class Group:
    """The rows of one budget, best first, and where the baseline's mean is on the common scale."""

    budget: str
    lines: list[Line]
    baseline: float | None


def settings_of(row: SummaryRow) -> str:
    """Write the settings beside the learning rate that were chosen: ``alpha 16``."""
    return ", ".join(f"{name.rpartition('.')[2]} {value}" for name, value in row.settings.items())


def groups(comparison: Comparison, shown: Sequence[Column]) -> list[Group]:
    """Make the table: one group a budget in order of appearance, failed rows at the end of each."""
    scale = _scale(comparison.scored)
    made = []
    for budget, rows in by_budget(comparison.rows).items():
        rows.sort(key=lambda row: math.inf if row.score_mean is None else -row.score_mean)
        best = best_of(rows)
        lines = [
            Line(row, [_cell(row, column) for column in shown], _extent(row, scale), row is best)
            for row in rows
        ]
        made.append(Group(budget, lines, _baseline(lines, comparison.baseline)))
    return made


@dataclass(frozen=True)
class RankLine:
    """A row at equal rank: ``aside`` is what tells rows of one name apart."""

    row: ComparedRow
    aside: str
    cells: list[Cell]


@dataclass(frozen=True)
class RankGroup:
    """The rows of one rank, and what may be said of them."""

    r: int
    verdict: tuple[str, ...]
    lines: list[RankLine]


def equal_ranks(comparison: Comparison) -> tuple[list[str], list[RankGroup]]:
    """Make the table at equal rank: its headings, and its rows by rank."""
    headings = [
        f"Test {comparison.metric}",
        f"Against {comparison.baseline}",
        "Trainable parameters",
    ]
    entries = []
    for entry in comparison.summary.equal_rank:
        lines = [
            RankLine(row, ", ".join(filter(None, (row.side, row.budget))), _rank_cells(row))
            for row in entry.rows
        ]
        entries.append(RankGroup(entry.r, entry.verdict, lines))
    return headings, entries


def _rank_cells(row: ComparedRow) -> list[Cell]:
    difference = (row.difference_low, row.difference_high)
    return [
        _written(row.score_mean, "{:z.3f}".format),
        _written(row.difference_mean, signed, bounds=difference),
        _written(row.trainable_parameters, "{:,}".format),
    ]


STARTS: tuple[tuple[str, Callable[[LayerStart | MonitoredLayer], float | None]], ...] = (
    ("‖ΔW₀‖ / ‖W‖", lambda it: it.relative_strength if isinstance(it, LayerStart) else None),
    (
        "Captured share before",
        lambda it: it.captured_before if isinstance(it, LayerStart) else None,
    ),
    ("Captured share after", lambda it: it.captured_after if isinstance(it, LayerStart) else None),
    (
        "Boundaries met before",
        lambda it: it.match_before if isinstance(it, MonitoredLayer) else None,
    ),
    (
        "Boundaries met after",
        lambda it: it.match_after if isinstance(it, MonitoredLayer) else None,
    ),
)
"""What an init reports of each layer: the headings of its averages, and where they are."""


def starts(comparison: Comparison) -> tuple[list[str], dict[str, list[str]]]:
    """Average what the inits reported of their layers, over the layers of the chosen runs.

    Returns:
        The headings of what was measured, and by the label of each row that has an init one text
        for each heading.
    """
    means: dict[str, list[str]] = {}
    for row in comparison.rows:
        inits = [run.init for run in comparison.chosen_runs(row) if run.init is not None]
        if layers := [layer for init in inits for layer in (*init.layers, *init.monitored)]:
            means[row.label] = [_mean_of(layers, measure) for _, measure in STARTS]
    shown = [i for i in range(len(STARTS)) if any(row[i] != ABSENT for row in means.values())]
    headings = [STARTS[i][0] for i in shown]
    return headings, {label: [row[i] for i in shown] for label, row in means.items()}


def _mean_of(
    layers: Sequence[LayerStart | MonitoredLayer],
    measure: Callable[[LayerStart | MonitoredLayer], float | None],
) -> str:
    values = [value for layer in layers if (value := measure(layer)) is not None]
    return f"{fmean(values):.3f}" if values else ABSENT


def _cell(row: SummaryRow, column: Column) -> Cell:
    absent = column.absent if row.is_scored else ABSENT
    return _written(column.value(row), column.write, bounds=column.bounds(row), absent=absent)


def _written(
    value: float | None,
    write: Callable[[float], str],
    *,
    bounds: Bounds = (None, None),
    absent: str = ABSENT,
) -> Cell:
    if value is None:
        return Cell(absent, None)
    return Cell(write(value), value, " to ".join(write(end) for end in bounds if end is not None))


def _bounds(row: SummaryRow, mean: float) -> tuple[float, float, float]:
    low, high = row.score_low, row.score_high
    return mean if low is None else low, mean, mean if high is None else high


def _scale(rows: Sequence[SummaryRow]) -> tuple[float, float]:
    scores = [
        bound
        for row in rows
        if row.score_mean is not None
        for bound in _bounds(row, row.score_mean)
    ]
    return min(scores, default=0.0), max(scores, default=1.0)


def _extent(row: SummaryRow, scale: tuple[float, float]) -> Extent | None:
    if row.score_mean is None:
        return None
    length = scale[1] - scale[0] or 1.0
    return Extent(*(100 * (end - scale[0]) / length for end in _bounds(row, row.score_mean)))


def _baseline(lines: Sequence[Line], name: str) -> float | None:
    means = [line.extent.mean for line in lines if line.row.name == name and line.extent]
    return means[0] if means else None
