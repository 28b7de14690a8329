"""How far a comparison is, and who leads: live in a terminal, plain lines elsewhere."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from statistics import fmean
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from rankwise.cli.showing import add_columns, add_row
from rankwise.comparison.analysis.choice import best_of, finished_of
from rankwise.core.outside_text import one_line
from rankwise.training.records import FailedRun, MethodIdentity, RunRecord

# Without a terminal a line is due after so many runs, or so many seconds.
RUNS_A_LINE, SECONDS_A_LINE = 25, 60.0


@dataclass
class Standing:
    """One method so far: the runs that have ended."""

    method: MethodIdentity
    runs: list[RunRecord | FailedRun] = field(default_factory=list)
    points: dict[str, list[RunRecord | FailedRun]] = field(default_factory=dict)

    def add(self, run: RunRecord | FailedRun) -> None:
        """Take one more run, and with it those that differ from it in the seed alone."""
        self.runs.append(run)
        point = json.dumps([run.learning_rate, run.settings | {"seed": None}])
        self.points.setdefault(point, []).append(run)

    @property
    def best(self) -> tuple[float, float] | None:
        """The score and the learning rate that would be chosen if no more runs came."""
        point = best_of(self.points)
        if point is None:
            return None
        runs = finished_of(self.points[point])
        return fmean(run.score_validation for run in runs), runs[0].learning_rate


class ProgressWatcher:
    """Shows runs done and left, and the best of each method so far; a context manager."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._standings: dict[MethodIdentity, Standing] = {}
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
        )
        self._task = self._bar.add_task("runs", total=0)
        # What is live goes when it ends: the table of results takes its place.
        self._live = Live(console=console, get_renderable=self._view, transient=True)
        self._total = 0
        self._done = 0
        self._failed = 0
        self._told_at = time.monotonic()

    def __enter__(self) -> ProgressWatcher:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._console.is_terminal:
            self._live.stop()
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            self._say(f"{self._counted()}, and kept")

    def plan(self, runs: int) -> None:
        """Add ``runs`` to what is to be done."""
        self._total += runs
        self._bar.update(self._task, total=self._total)

    def done(self, record: RunRecord | FailedRun) -> None:
        """Count one run; a failed one is named at once."""
        self._done += 1
        self._bar.update(self._task, completed=self._done)
        self._standings.setdefault(record.method, Standing(record.method)).add(record)
        if isinstance(record, FailedRun):
            self._failed += 1
            self._say(f"failed: {record.run}: {record.error}")
        if not self._console.is_terminal and self._is_line_due():
            self._told_at = time.monotonic()
            self._say(f"{self._counted()}{self._leaders()}")

    def widened(self, method: str, rate: float) -> None:
        """Say that a method is tried at one more rate, because its best stood at an edge."""
        self._say(f"{method}: its best learning rate is at an edge of the grid, {rate:g} is tried")

    def _is_line_due(self) -> bool:
        is_late = time.monotonic() - self._told_at >= SECONDS_A_LINE
        return is_late or self._done % RUNS_A_LINE == 0 or self._done == self._total

    def _counted(self) -> str:
        failed = f", {self._failed} failed" if self._failed else ""
        return f"{self._done} of {self._total} runs done{failed}"

    def _say(self, text: str) -> None:
        self._console.print(one_line(text), highlight=False, markup=False)

    def _ranked(self) -> list[tuple[Standing, float, float]]:
        found = [(each, each.best) for each in self._standings.values()]
        ranked = [(each, *best) for each, best in found if best is not None]
        return sorted(ranked, key=lambda entry: -entry[1])

    def _leaders(self) -> str:
        """Name the best method of each budget so far, on validation."""
        leaders: dict[str, str] = {}
        for standing, score, _ in self._ranked():
            leaders.setdefault(standing.method.budget, f"{standing.method.label} {score:.3f}")
        listed = ", ".join(leaders.values())
        return f"; best on validation so far: {listed}" if listed else ""

    def _view(self) -> Group:
        table = Table(box=None, pad_edge=False)
        headings = ("budget", "best so far", "runs", "lr", "validation")
        add_columns(table, headings, texts=("budget", "best so far"), no_wrap=True)
        # Two lines are the bar's and the heading's, one the cursor's.
        for standing, score, rate in self._ranked()[: max(self._console.height - 3, 1)]:
            method, runs = standing.method, str(len(standing.runs))
            cells = (method.budget, method.label, runs, f"{rate:g}", f"{score:.3f}")
            add_row(table, *cells)
        return Group(table, self._bar) if table.row_count else Group(self._bar)
