"""``rankwise report``: page and table again from records alone, or in a format, or means."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from rankwise.cli.showing import show_summary, show_table
from rankwise.comparison.folder import read_runs, read_summary, report_file
from rankwise.comparison.records import Summary
from rankwise.comparison.report.comparison import Comparison
from rankwise.comparison.report.formats import FORMATS
from rankwise.comparison.report.page import write_report
from rankwise.core.errors import SettingsError

SECTIONS = ()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the folder of a comparison, and those of other tasks."""
    parser.add_argument("output", type=Path, help="the folder that `rankwise compare` wrote")
    parser.add_argument(
        "others",
        type=Path,
        nargs="*",
        help="those of other tasks: prints means over tasks and groups instead",
    )
    parser.add_argument(
        "--format", choices=tuple(FORMATS), help="print the table in this format instead"
    )


def run(arguments: argparse.Namespace, _overrides: dict[str, Any]) -> int:
    """Rebuild ``report.html`` in the folder of a comparison; of several, print the means."""
    summary = read_summary(arguments.output)
    if arguments.format and arguments.others:
        raise SettingsError(f"--format {arguments.format} is of one comparison, got several")
    if arguments.format:
        sys.stdout.write(FORMATS[arguments.format](Comparison(summary, [])))
        return 0
    if arguments.others:
        return _show_means([summary, *map(read_summary, arguments.others)])
    page = report_file(arguments.output)
    write_report(Comparison(summary, read_runs(arguments.output, summary)), page)
    show_summary(summary, page)
    return 0


def _show_means(summaries: list[Summary]) -> int:
    # Intervals need SciPy, which the page of one comparison does without.
    from rankwise.comparison.analysis.task_means import means_over_tasks, means_table

    tasks = [each.task for each in summaries]
    show_table(means_table(tasks, means_over_tasks(summaries)))
    return 0
