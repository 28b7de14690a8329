"""The files of a comparison: ``summary.json``, ``report.html`` and the records of its runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rankwise.core.records import read_record, write_record
from rankwise.training.folder import RunFolder


def report_file(output: Path) -> Path:
    """Return the path of the page."""
    return output / "report.html"


def summary_file(output: Path) -> Path:
    """Return the path of the summary."""
    return output / "summary.json"


def write_summary(output: Path, summary: dict[str, Any]) -> None:
    """Write ``summary.json``."""
    write_record(summary_file(output), summary)


def read_summary(output: Path) -> dict[str, Any]:
    """Read ``summary.json``."""
    return read_record(summary_file(output))


def read_runs(output: Path, summary: dict[str, Any]) -> list[dict[str, Any]]:
    """Read the records of the runs that the summary rests on."""
    return [read_record(RunFolder(output, run).record) for run in summary["runs"]]
