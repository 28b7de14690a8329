"""``rankwise report``: the page and the table again, from the records alone."""

from __future__ import annotations

import argparse
from typing import Any

from rankwise.cli.showing import show_summary
from rankwise.comparison.folder import read_runs, read_summary, report_file
from rankwise.comparison.report import write_report


def run(arguments: argparse.Namespace, _overrides: dict[str, Any]) -> int:
    """Rebuild ``report.html`` in the folder of a comparison."""
    summary = read_summary(arguments.output)
    page = report_file(arguments.output)
    write_report(summary, read_runs(arguments.output, summary), page)
    show_summary(summary, page)
    return 0
