"""The files of a comparison: ``summary.json``, ``report.html`` and the records of its runs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from rankwise.core.errors import SettingsError
from rankwise.training.folder import RunFolder
from rankwise.training.records import FailedRun, RunRecord, Summary, read_run


@contextlib.contextmanager
def sole_use(output: Path) -> Iterator[None]:
    """Keep other comparisons out of the folder meanwhile; a process that dies lets go of it.

    A folder that is still empty at the end is not left behind.

    Raises:
        SettingsError: Another comparison is at work there.
    """
    output.mkdir(parents=True, exist_ok=True)
    file = output / "compare.lock"
    lock = FileLock(file, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise SettingsError(
            f"another comparison is at work in {output}: wait for it, or choose another --output"
        ) from None
    try:
        yield
    finally:
        lock.release()
        if list(output.iterdir()) == [file]:
            file.unlink()
            output.rmdir()


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
