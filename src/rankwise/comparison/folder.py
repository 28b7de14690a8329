"""The files of a comparison: ``summary.json``, ``report.html`` and the records of its runs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from rankwise.core.errors import SettingsError
from rankwise.core.records import read_record, write_record
from rankwise.training.folder import RunFolder


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


def write_summary(output: Path, summary: dict[str, Any]) -> None:
    """Write ``summary.json``."""
    write_record(summary_file(output), summary)


def read_summary(output: Path) -> dict[str, Any]:
    """Read ``summary.json``."""
    return read_record(summary_file(output))


def read_runs(output: Path, summary: dict[str, Any]) -> list[dict[str, Any]]:
    """Read the records of the runs that the summary rests on."""
    return [read_record(RunFolder(output, run).record) for run in summary["runs"]]
