"""The files of a comparison: ``summary.json``, ``report.html`` and the records of its runs."""

from __future__ import annotations

from pathlib import Path

from rankwise.comparison.records import Summary
from rankwise.training.folder import RunFolder
from rankwise.training.records import FailedRun, RunRecord, read_run


def report_file(output: Path) -> Path:
    """Return the path of the page."""
    return output / "report.html"


def summary_file(output: Path) -> Path:
    """Return the path of the summary."""
    return output / "summary.json"


def write_summary(output: Path, summary: Summary) -> None:
    """Write ``summary.json``."""
    summary.write(summary_file(output))


def read_summary(output: Path) -> Summary:
    """Read ``summary.json``.

    Raises:
        AdapterError: It is missing, damaged, or written by a newer version.
    """
    return Summary.read(summary_file(output))


def read_runs(output: Path, summary: Summary) -> list[RunRecord | FailedRun]:
    """Read the records of the runs that the summary rests on.

    Raises:
        AdapterError: One is missing, damaged, or written by a newer version.
    """
    return [read_run(RunFolder.below(output, run).record) for run in summary.runs]
