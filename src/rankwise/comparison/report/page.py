"""The page of a comparison: one HTML file with everything in it, from which no request leaves.

Its question and verdict come first, then the table, the charts, what failed, and the protocol. It
is made from records alone, so it can be rebuilt where there is no model, data or accelerator.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rankwise.comparison.report import captions, series
from rankwise.comparison.report import tables as report_table
from rankwise.comparison.report.series import Run
from rankwise.core.errors import AdapterError, SettingsError
from rankwise.core.records import write_text

if TYPE_CHECKING:
    import plotly.graph_objects as go


@dataclass(frozen=True)
class Picture:
    """One figure of a chart, for one budget or, where ``view`` is ``None``, for all of them."""

    view: str | None
    figure: dict[str, Any]
    caption: str


@dataclass(frozen=True)
class Chart:
    """A chart of the page: its heading, how to read it, and its pictures."""

    id: str
    title: str
    note: str
    pictures: list[Picture]


def write_report(summary: dict[str, Any], runs: list[Run], path: Path) -> None:
    """Write the page for ``summary`` and the records of its runs to ``path``.

    Raises:
        SettingsError: The optional extra is not installed.
        AdapterError: The summary is not one of a comparison.
    """
    _require_extra()
    _require_keys(summary)
    write_text(path, _render(_context(summary, runs)))


def _require_extra() -> None:
    missing = [name for name in ("jinja2", "plotly") if importlib.util.find_spec(name) is None]
    if missing:
        raise SettingsError(
            f"a report needs {' and '.join(missing)}, which cannot be found: "
            "pip install 'rankwise[report]'"
        )


def _require_keys(summary: dict[str, Any]) -> None:
    missing = [key for key in ("task", "protocol", "methods") if key not in summary]
    if missing:
        raise AdapterError(
            f"the summary of a comparison must have {', '.join(missing)}, got only "
            f"{', '.join(summary) or 'nothing'}: write it again with `rankwise compare`"
        )


def _render(context: dict[str, Any]) -> str:
    import jinja2  # optional extra

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("rankwise.comparison.report", "assets"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2").render(context)


def _context(summary: dict[str, Any], runs: list[Run]) -> dict[str, Any]:
    # These need the optional extra.
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    from rankwise.comparison.report import palette

    metric = series.metric(runs)
    columns = report_table.columns(summary, metric)
    charts = _charts(summary, runs)
    start_headings, starts = report_table.starts(summary, runs)
    rank_headings, ranks = report_table.equal_ranks(summary, metric)
    return {
        "summary": summary,
        "verdict": summary.get("verdict", []),
        "warnings": [
            (series.label(row), warning)
            for row in summary["methods"]
            for warning in row.get("warnings", [])
        ],
        "columns": columns,
        "groups": report_table.groups(summary, columns),
        "rank_headings": rank_headings,
        "ranks": ranks,
        "start_headings": start_headings,
        "starts": starts,
        "label": series.label,
        "runs": runs,
        "colours": {
            name: (light, palette.DARK[light]) for name, light in palette.colours(summary).items()
        },
        "views": series.views(summary["methods"]),
        "charts": charts,
        "payload": {
            "baseline": summary["protocol"]["baseline"],
            "dark": palette.DARK,
            "charts": {chart.id: [(p.view, p.figure) for p in chart.pictures] for chart in charts},
        },
        "plotly": Markup(get_plotlyjs()),
    }


def _charts(summary: dict[str, Any], runs: list[Run]) -> list[Chart]:
    from rankwise.comparison.report import plots  # needs the optional extra

    metric = series.metric(runs)
    views = series.views(summary["methods"]) or [None]
    symbols = plots.markers(summary).items()
    key = ", ".join(f"{plots.MARKERS[symbol]}\u00a0{budget}" for budget, symbol in symbols)
    curves, rates, *seen = (
        [_picture(view, draw(summary, runs, view), tell(summary, runs, view)) for view in views]
        for draw, tell in (
            (plots.learning_curves, captions.learning_curves),
            (plots.score_by_learning_rate, captions.score_by_learning_rate),
            (plots.strength, captions.strength),
            (plots.followed, captions.followed),
            (plots.batch_loss, captions.batch_loss),
        )
    )
    figure = plots.score_by_parameters(summary, runs)
    parameters = [_picture(None, figure, captions.score_by_parameters(summary))]
    return [
        Chart(
            "learning-curves",
            "Learning curves",
            f"Validation {metric} at the learning rate chosen for each method: mean over seeds, "
            "shaded from the lowest seed to the highest. Dotted: reference from another budget. A "
            "tick marks the fold of a chain. The first rise may begin below the scale.",
            curves,
        ),
        Chart(
            "score-by-parameters",
            "What parameters buy",
            f"Test {metric} with its 95 % interval. Along the dotted line, the Pareto front, no "
            f"method does better with fewer parameters. Budgets: {key}.",
            parameters,
        ),
        Chart(
            "score-by-learning-rate",
            "How much the learning rate matters",
            f"Validation {metric}, mean over seeds. A ring marks the rate that was chosen; a cross "
            "on the axis marks a rate at which a run failed.",
            rates,
        ),
        *_rank_chart(summary, runs),
        *_diagnostic_charts(runs, *seen),
        *_ablation_chart(summary, runs),
    ]


def _rank_chart(summary: dict[str, Any], runs: list[Run]) -> list[Chart]:
    """The chart over ranks; none where no method was scored at two of them."""
    from rankwise.comparison.report import rank_plot  # needs the optional extra

    if not rank_plot.lines_of(summary):
        return []
    figure = rank_plot.score_by_rank(summary, runs)
    return [
        Chart(
            "score-by-rank",
            "What rank buys",
            f"Test {series.metric(runs)} over rank, a line for each method that was scored at "
            "several; what has no rank is level.",
            [_picture(None, figure, rank_plot.told(summary))],
        )
    ]


def _ablation_chart(summary: dict[str, Any], runs: list[Run]) -> list[Chart]:
    """The chart of an ablation; none where no setting was varied."""
    from rankwise.comparison.report import distribution  # needs the optional extra

    if not summary["protocol"].get("varied"):
        return []
    figure = distribution.distribution(summary, runs)
    return [
        Chart(
            "distribution",
            "How the values differ",
            "Validation score of every run, all learning rates and seeds: the box holds the middle "
            "half of them, the line in it is the median.",
            [_picture(None, figure, distribution.told(summary, runs))],
        )
    ]


def _diagnostic_charts(
    runs: list[Run],
    strengths: list[Picture],
    followed: list[Picture],
    losses: list[Picture],
) -> list[Chart]:
    """The charts of what was seen while the runs trained; none of what was not."""
    charts = [
        Chart(
            "strength",
            "How far the weights move",
            "Strength of the change beside the weights it changes, over all adapted layers, at the "
            "learning rate chosen: mean over seeds, shaded from the lowest to the highest. The "
            "strength of a chain is that of all its blocks; a tick marks a fold.",
            strengths,
        ),
        Chart(
            "followed",
            "What the first steps can follow",
            "Share of the squared gradient of one batch that the parameters can follow at first "
            "order. One minus it is the relative information loss of ABM-LoRA. Shares of different "
            "methods are of different gradients as soon as they have trained.",
            followed,
        ),
        Chart(
            "batch-loss",
            "The loss of the first steps",
            "Mean loss of that batch, the first that is trained on, without dropout.",
            losses,
        ),
    ]
    keys = ("strength", "followed", "batch_loss")
    return [chart for chart, key in zip(charts, keys, strict=True) if _was_seen(runs, key)]


def _was_seen(runs: list[Run], key: str) -> bool:
    points = (point for run in runs for point in run.get("diagnostics") or ())
    return any(point.get(key) is not None for point in points)


def _picture(view: str | None, figure: go.Figure, caption: str) -> Picture:
    return Picture(view, figure.to_plotly_json(), caption)
