"""How far a comparison is: a bar with the time left in a terminal, plain lines elsewhere."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class ProgressWatcher:
    """Shows runs done and left; a context manager."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("runs", total=0)
        self._total = 0
        self._done = 0

    def __enter__(self) -> ProgressWatcher:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def plan(self, runs: int) -> None:
        """Add ``runs`` to what is to be done."""
        self._total += runs
        self._bar.update(self._task, total=self._total)

    def done(self, record: dict[str, Any]) -> None:
        """Count one run; a failed one is named at once."""
        self._done += 1
        self._bar.update(self._task, completed=self._done)
        if record["status"] != "done":
            self._console.print(f"failed: {record['run']}: {record['error']}", highlight=False)
        elif not self._console.is_terminal and (self._done % 25 == 0 or self._done == self._total):
            self._console.print(f"{self._done} of {self._total} runs done", highlight=False)
