"""``rankwise report``: page and table again from the records alone, or means over tasks."""

from __future__ import annotations

import argparse
from typing import Any

from rankwise.cli.showing import show_summary, show_table
from rankwise.comparison.analysis.task_means import means_over_tasks, means_table
from rankwise.comparison.folder import read_runs, read_summary, report_file
from rankwise.comparison.report.comparison import Comparison
from rankwise.comparison.report.page import write_report


def run(arguments: argparse.Namespace, _overrides: dict[str, Any]) -> int:
    """Rebuild ``report.html`` in the folder of a comparison; of several, print the means."""
    summary = read_summary(arguments.output)
    if arguments.others:
        summaries = [summary, *map(read_summary, arguments.others)]
        tasks = [each.task for each in summaries]
        show_table(means_table(tasks, means_over_tasks(summaries)))
        return 0
    page = report_file(arguments.output)
    write_report(Comparison(summary, read_runs(arguments.output, summary)), page)
    show_summary(summary, page)
    return 0
