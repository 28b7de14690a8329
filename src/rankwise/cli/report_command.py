"""``rankwise report``: pages and tables from records alone: a run, federations, comparisons."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from rankwise.cli.showing import say, show_summary, show_table
from rankwise.comparison.folder import read_runs, read_summary, report_file, summary_file
from rankwise.comparison.records import Summary
from rankwise.comparison.report.comparison import Comparison
from rankwise.comparison.report.formats import FORMATS
from rankwise.comparison.report.page import write_report
from rankwise.core.errors import SettingsError
from rankwise.core.outside_text import printable
from rankwise.training.federation_records import (
    FEDERATIONS,
    FederationRecord,
    Federations,
    read_any,
)
from rankwise.training.folder import RunFolder
from rankwise.training.report.page import write_run_report

SECTIONS = ()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the folder of a comparison, and those of other tasks."""
    parser.add_argument(
        "output", type=Path, help="the folder of a comparison, of federations, or of one run"
    )
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
    """Write the page into the folder of a comparison or run; of several, print the means."""
    if RunFolder.at(arguments.output).record.exists():
        return _report_run(arguments)
    if (arguments.output / FEDERATIONS).exists() and not summary_file(arguments.output).exists():
        return _report_federations(arguments)
    summary = read_summary(arguments.output)
    if arguments.format and arguments.others:
        raise SettingsError(f"--format {arguments.format} is of one comparison, got several")
    if arguments.format:
        sys.stdout.write(printable(FORMATS[arguments.format](Comparison(summary, []))))
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
    folder = RunFolder.at(arguments.output)
    if isinstance(read_any(folder.record), FederationRecord):
        above = folder.path.parent
        raise SettingsError(
            f"{arguments.output} is one federation of those in {above}, which have one page: "
            f"rankwise report {above}"
        )
    say(f"written: {write_run_report(RunFolder.at(arguments.output))}")
    return 0


def _report_federations(arguments: argparse.Namespace) -> int:
    """Write the page of federations, and print what the command that made them printed."""
    if arguments.format or arguments.others:
        raise SettingsError(
            f"{arguments.output} holds federations: they have a page, no table in other formats "
            "and no means"
        )
    # Its page and its tables need torch.
    from rankwise.federated.report.page import PAGE
    from rankwise.federated.report.page import write_report as write_page
    from rankwise.federated.table import federations_table, remarks, rounds_table

    records = Federations.read(arguments.output / FEDERATIONS).federations
    write_page(records, arguments.output / PAGE)
    show_table(rounds_table(records))
    show_table(federations_table(records))
    say(*remarks(records), f"written: {arguments.output / PAGE}")
    return 0


def _show_means(summaries: list[Summary]) -> int:
    # Intervals need SciPy, which the page of one comparison does without.
    from rankwise.comparison.analysis.task_means import means_over_tasks, means_table

    tasks = [each.task for each in summaries]
    show_table(means_table(tasks, means_over_tasks(summaries)))
    return 0
