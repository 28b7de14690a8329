"""The files of a comparison: ``summary.json``, ``report.html`` and the records of its runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rankwise.comparison.records import Summary
from rankwise.core.errors import AdapterError
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


def check_runs_are_there(output: Path, runs: Sequence[RunRecord | FailedRun]) -> None:
    """Refuse to sum up runs whose records something has removed meanwhile.

    Raises:
        AdapterError: Some of them are gone.
    """
    gone = [run.run for run in runs if not RunFolder.below(output, run.run).record.exists()]
    if gone:
        raise AdapterError(
            f"{len(gone)} of {len(runs)} runs are no longer in {output / 'runs'}, such as "
            f"{gone[0]}: leave the folder alone, and rerun the same command to repeat them"
        )


def read_runs(output: Path, summary: Summary) -> list[RunRecord | FailedRun]:
    """Read the records of the runs that the summary rests on.

    Raises:
        AdapterError: One is missing, damaged, or written by a newer version.
    """
    return [read_run(RunFolder.below(output, run).record) for run in summary.runs]
