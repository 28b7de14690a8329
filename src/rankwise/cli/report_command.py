"""``rankwise report``: pages and tables from records alone, of a run, of comparisons, or means."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from rankwise.cli.showing import say, show_summary, show_table
from rankwise.comparison.folder import read_runs, read_summary, report_file
from rankwise.comparison.records import Summary
from rankwise.comparison.report.comparison import Comparison
from rankwise.comparison.report.formats import FORMATS
from rankwise.comparison.report.page import write_report
from rankwise.core.errors import SettingsError
from rankwise.training.folder import RunFolder
from rankwise.training.report.page import write_run_report

SECTIONS = ()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the folder of a comparison, and those of other tasks."""
    parser.add_argument("output", type=Path, help="the folder of a comparison, or of one run")
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
    """Write ``report.html`` in the folder of a comparison or run; of several, print the means."""
    if RunFolder.at(arguments.output).record.exists():
        return _report_run(arguments)
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


def _report_run(arguments: argparse.Namespace) -> int:
    if arguments.format or arguments.others:
        raise SettingsError(
            f"{arguments.output} is the folder of one run: it has a page, no table and no means"
        )
    say(f"written: {write_run_report(RunFolder.at(arguments.output))}")
    return 0


def _show_means(summaries: list[Summary]) -> int:
    # Intervals need SciPy, which the page of one comparison does without.
    from rankwise.comparison.analysis.task_means import means_over_tasks, means_table

    tasks = [each.task for each in summaries]
    show_table(means_table(tasks, means_over_tasks(summaries)))
    return 0
