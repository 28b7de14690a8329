"""A chart of a page as one entry of a table: how it is drawn and told, and when it is shown.

What a chart is drawn from, its subject, is the page's: a comparison, or federations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import plotly.graph_objects as go

View = str | None
Subject = TypeVar("Subject")


@dataclass(frozen=True)
class Chart(Generic[Subject]):
    """One entry of the table of charts.

    Attributes:
        id: Of its element in the page.
        title: Its heading.
        note: How to read it.
        draw: The figure for one view, or, where it is not drawn by view, for all of them.
        caption: The same in words.
        is_shown: Whether there is anything to draw.
        views: For each of which there is one figure; empty where it is not drawn by view.
    """

    id: str
    title: str
    note: Callable[[Subject], str]
    draw: Callable[[Subject, View], go.Figure]
    caption: Callable[[Subject, View], str]
    is_shown: Callable[[Subject], bool] = lambda _: True
    views: Callable[[Subject], Sequence[str]] = lambda _: ()


@dataclass(frozen=True)
class Picture:
    """One figure of a chart, for one view or, where ``view`` is ``None``, for all of them."""

    view: View
    figure: dict[str, Any]
    caption: str


@dataclass(frozen=True)
class Shown:
    """A chart with its pictures, as the page shows it."""

    id: str
    title: str
    note: str
    pictures: list[Picture]


def shown_charts(charts: Iterable[Chart[Subject]], subject: Subject) -> list[Shown]:
    """Return the charts that have something to show of ``subject``, drawn and told."""
    return [
        Shown(chart.id, chart.title, chart.note(subject), pictures_of(chart, subject))
        for chart in charts
        if chart.is_shown(subject)
    ]


def pictures_of(chart: Chart[Subject], subject: Subject) -> list[Picture]:
    """Return the figures of a chart, one a view, with their words."""
    views: list[View] = [*chart.views(subject)]
    return [
        Picture(view, chart.draw(subject, view).to_plotly_json(), chart.caption(subject, view))
        for view in views or [None]
    ]
