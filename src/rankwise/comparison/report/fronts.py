"""Test score over what it costs, and the Pareto front; a budget keeps its marker."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any

import plotly.graph_objects as go

from rankwise.comparison.fronts import COSTS, pareto_front, tells_apart
from rankwise.comparison.records import SummaryRow
from rankwise.comparison.report.comparison import Comparison
from rankwise.comparison.report.drawing import Stroke, strokes_of
from rankwise.comparison.report.series import Series
from rankwise.comparison.report.ticks import ticks
from rankwise.pages.drawing import escaped, figure_of, span_of
from rankwise.pages.palette import MUTED, PAPER
from rankwise.pages.writing import duration, listed, signed, size
from rankwise.training.records import MethodIdentity

MARKERS = {"circle": "●", "square": "■", "diamond": "◆", "triangle-up": "▲", "cross": "✚"}
_NOTHING = Series((), (), (), ())


def markers(comparison: Comparison) -> dict[str, str]:
    """Give every budget its marker, in order of appearance."""
    return dict(zip(comparison.budgets, cycle(MARKERS)))


def marker_key(comparison: Comparison) -> str:
    """Write which marker is which budget's."""
    symbols = markers(comparison).items()
    return ", ".join(f"{MARKERS[symbol]}\u00a0{budget}" for budget, symbol in symbols)


@dataclass(frozen=True)
class Front:
    """The chart of test score over one cost.

    Attributes:
        cost: Its name in ``COSTS``.
        title: Of the axis.
        order: Of the front in words: from what to what.
        write: How a cost is told.
        hover: The same for Plotly, behind the score.
        units: Of its ticks, from the smallest, with how much they are; none: Plotly chooses.
        is_logarithmic: Whether only ratios of the cost count.
    """

    cost: str
    title: str
    order: str
    write: Callable[[float], str]
    hover: str
    units: Mapping[str, float] = field(default_factory=dict)
    is_logarithmic: bool = True

    def draw(self, comparison: Comparison, _view: str | None) -> go.Figure:
        """Draw test score, with its interval, over the cost, and the Pareto front."""
        front = self.front(comparison)
        strokes = strokes_of(comparison, self._point_of)
        symbols = markers(comparison)
        places = {stroke.row.identity: self._place(stroke.series.x[0]) for stroke in strokes}
        ends = self._ends([*places.values()])
        gap = math.log10(1.3) if self.is_logarithmic else 0.06 * (ends[1] - ends[0])
        named = _roomy([row for row in front if row.identity in places], places, gap=gap)
        traces = [self._line(front)]
        traces += [self._mark(stroke, symbols[stroke.row.budget]) for stroke in strokes]
        traces += [
            _label(stroke, (places[stroke.row.identity] - ends[0]) / (ends[1] - ends[0]))
            for stroke in strokes
            if stroke.row.identity in named
        ]
        span = span_of(
            [s for k in strokes for s in (*k.series.low, *k.series.mean, *k.series.high)]
        )
        axis: dict[str, Any] = {"title": {"text": self.title}, "range": ends}
        if self.is_logarithmic:
            at, texts = ticks(10 ** ends[0], 10 ** ends[1], units=self.units)
            axis |= {"type": "log", "tickvals": at, "ticktext": texts, "tickangle": 0}
        figure = figure_of(traces, x_axis=axis, y_title=f"test {comparison.metric}", span=span)
        return figure.update_layout(margin={"r": 24})

    def tell(self, comparison: Comparison, _view: str | None) -> str:
        """List the Pareto front with what each of its rows costs and scores."""
        told = [
            f"{row.label}: {row.score_mean:.3f} with {self.write(spent)}"
            for row in self.front(comparison)
            if (spent := COSTS[self.cost](row)) is not None
        ]
        return listed(told, opening=f"Pareto front, {self.order}")

    def front(self, comparison: Comparison) -> list[SummaryRow]:
        """Return the rows on the front, by rising cost."""
        return pareto_front(comparison.scored, COSTS[self.cost])

    def tells_apart(self, comparison: Comparison) -> bool:
        """Say whether methods differ in this cost."""
        return tells_apart(comparison.scored, COSTS[self.cost])

    def _point_of(self, row: SummaryRow) -> Series:
        """The score as a series of one point; of none where the axis has no place for it."""
        spent = COSTS[self.cost](row)
        if spent is None or (self.is_logarithmic and spent <= 0):
            return _NOTHING
        return Series((spent,), (row.score_mean,), (row.score_low,), (row.score_high,))

    def _place(self, spent: float) -> float:
        return math.log10(spent) if self.is_logarithmic else spent

    def _ends(self, places: Sequence[float]) -> list[float]:
        """The range of the axis with some air at both ends, more where names begin."""
        low, high = min(places, default=0.0), max(places, default=0.0)
        if self.is_logarithmic:
            return [low - math.log10(1.6), high + math.log10(1.2)]
        air = 0.06 * (high - low) or 0.05
        return [low - 2 * air, high + air]

    def _line(self, front: Sequence[SummaryRow]) -> go.Scatter:
        return go.Scatter(
            name="Pareto front",
            meta={"method": None, "role": "front"},
            x=[COSTS[self.cost](row) for row in front],
            y=[row.score_mean for row in front],
            mode="lines",
            line={"color": MUTED, "width": 1.5, "dash": "dot", "shape": "hv"},
            hoverinfo="skip",
        )

    def _mark(self, stroke: Stroke, symbol: str) -> go.Scatter:
        (mean,), (low,), (high,) = stroke.series.mean, stroke.series.low, stroke.series.high
        assert mean is not None
        return stroke.trace(
            "point",
            x=stroke.series.x,
            y=stroke.series.mean,
            mode="markers",
            marker={
                "symbol": symbol,
                "size": 11,
                "color": stroke.colour,
                "line": {"color": PAPER, "width": 1},
            },
            error_y={
                "array": [None if high is None else high - mean],
                "arrayminus": [None if low is None else mean - low],
                "width": 0,
                "thickness": 1,
                "color": stroke.colour,
            },
            hovertemplate=f"%{{y:.4~f}} with {self.hover}",
        )


PARAMETERS = Front(
    "trainable_parameters",
    "trainable parameters",
    "from the fewest parameters to the most",
    "{:,}".format,
    "%{x:,} trainable parameters",
    {"": 1, "k": 1e3, "M": 1e6, "G": 1e9},
)
TIME = Front(
    "run_seconds",
    "time of a run",
    "from the shortest run to the longest",
    duration,
    "%{x:.3~s}s a run",
    {" ms": 1e-3, " s": 1, " min": 60, " h": 3600},
)
MEMORY = Front(
    "peak_memory_bytes",
    "peak memory",
    "from the least memory to the most",
    size,
    "%{x:.3~s}B of memory",
    {" B": 1, " kB": 1e3, " MB": 1e6, " GB": 1e9, " TB": 1e12},
)
FORGETTING = Front(
    "forgetting_mean",
    "forgetting",
    "from the least forgetting to the most",
    lambda lost: f"forgetting {signed(lost)}",
    "forgetting %{x:+.3f}",
    is_logarithmic=False,
)


def _label(stroke: Stroke, at: float) -> go.Scatter:
    (high,) = stroke.series.high
    # To the left of a point near the edge there is no room.
    is_left = at < 0.35
    name, space = escaped(stroke.row.label), "&nbsp;&nbsp;"
    return stroke.trace(
        "label",
        x=stroke.series.x,
        y=stroke.series.mean if high is None else [high],
        mode="text",
        text=[space + name if is_left else name + space],
        textposition="top right" if is_left else "top left",
        textfont={"color": stroke.colour},
        hoverinfo="skip",
    )


def _roomy(
    front: Sequence[SummaryRow], places: Mapping[MethodIdentity, float], *, gap: float
) -> list[MethodIdentity]:
    """The rows of the front that have room for a name: of close neighbours only the best."""
    named: list[MethodIdentity] = []
    for row in reversed(front):
        if not named or places[row.identity] + gap < places[named[-1]]:
            named.append(row.identity)
    return named
