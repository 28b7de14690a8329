"""The page of a comparison: one HTML file with everything in it, from which no request leaves.

Its question and verdict come first, then the table, the charts, what failed, and the protocol. It
is made from records alone, so it can be rebuilt where there is no model, data or accelerator.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from rankwise.comparison.report import palette, tables
from rankwise.comparison.report.comparison import Comparison
from rankwise.core.errors import SettingsError
from rankwise.core.records import write_text


def write_report(comparison: Comparison, path: Path) -> None:
    """Write the page of a comparison to ``path``.

    Raises:
        SettingsError: The optional extra is not installed.
    """
    if missing := missing_extra():
        raise SettingsError(missing)
    write_text(path, _render(_context(comparison)))


def missing_extra() -> str:
    """Say what a page needs and does not find; nothing if all is there."""
    missing = [name for name in ("jinja2", "plotly") if importlib.util.find_spec(name) is None]
    if not missing:
        return ""
    return (
        f"a report needs {' and '.join(missing)}, which cannot be found: "
        "pip install 'rankwise[report]'"
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


def _context(comparison: Comparison) -> dict[str, Any]:
    # These need the optional extra.
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    from rankwise.comparison.report.charts import pictures_of, shown_charts

    columns = tables.columns(comparison)
    start_headings, starts = tables.starts(comparison)
    rank_headings, ranks = tables.equal_ranks(comparison)
    charts = [
        (chart, chart.note(comparison), pictures_of(chart, comparison))
        for chart in shown_charts(comparison)
    ]
    colours = palette.colours(comparison.summary)
    return {
        "comparison": comparison,
        "summary": comparison.summary,
        "protocol": comparison.summary.protocol.model_dump(mode="json"),
        "columns": columns,
        "groups": tables.groups(comparison, columns),
        "rank_headings": rank_headings,
        "ranks": ranks,
        "start_headings": start_headings,
        "starts": starts,
        "colours": {name: (light, palette.DARK[light]) for name, light in colours.items()},
        "charts": charts,
        "payload": {
            "baseline": comparison.baseline,
            "dark": palette.DARK,
            "charts": {
                chart.id: [(picture.view, picture.figure) for picture in pictures]
                for chart, _, pictures in charts
            },
        },
        "plotly": Markup(get_plotlyjs()),
    }
