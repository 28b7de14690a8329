"""The page of a comparison: one HTML file with everything in it, from which no request leaves.

Its question and verdict come first, then the table, the charts, what failed, and the protocol. It
is made from records alone, so it can be rebuilt where there is no model, data or accelerator.
"""

from __future__ import annotations

from pathlib import Path

from rankwise.comparison.report import tables
from rankwise.comparison.report.columns import columns
from rankwise.comparison.report.comparison import Comparison
from rankwise.comparison.report.formats import downloads
from rankwise.pages.frame import require_extra, write_page
from rankwise.pages.writing import on_lines


def write_report(comparison: Comparison, path: Path) -> None:
    """Write the page of a comparison to ``path``.

    Raises:
        SettingsError: The optional extra is not installed.
    """
    require_extra("report")
    # These need the optional extra.
    from rankwise.comparison.report.charts import CHARTS
    from rankwise.pages.chart import shown_charts

    measured = columns(comparison)
    start_headings, starts = tables.starts(comparison)
    rank_headings, ranks = tables.equal_ranks(comparison)
    write_page(
        path,
        package=__package__ or "",
        template="report.html.j2",
        charts=shown_charts(CHARTS, comparison),
        colours=comparison.colours,
        context={
            "baseline": comparison.baseline,
            "comparison": comparison,
            "summary": comparison.summary,
            "protocol": comparison.summary.protocol.model_dump(mode="json"),
            "command": on_lines(comparison.summary.protocol.command),
            "columns": measured,
            "groups": tables.groups(comparison, measured),
            "rank_headings": rank_headings,
            "ranks": ranks,
            "settings_of": tables.settings_of,
            "downloads": downloads(comparison),
            "start_headings": start_headings,
            "starts": starts,
        },
    )
