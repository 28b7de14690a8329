"""``rankwise report``: the page and the table again, from the records alone."""

from __future__ import annotations

import argparse
from typing import Any

from rich.console import Console

from rankwise.comparison.folder import read_runs, read_summary, report_file
from rankwise.comparison.report import write_report
from rankwise.comparison.table import summary_table


def run(arguments: argparse.Namespace, overrides: dict[str, Any]) -> int:  # noqa: ARG001
    """Rebuild ``report.html`` in the folder of a comparison."""
    summary = read_summary(arguments.output)
    page = report_file(arguments.output)
    write_report(summary, read_runs(arguments.output, summary), page)
    console = Console()
    console.print(summary_table(summary))
    console.print(f"written to {page}", highlight=False)
    return 0
