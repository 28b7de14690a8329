"""How far a comparison is, and who leads: live in a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from statistics import fmean
from types import TracebackType
from typing import Any

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

from rankwise.cli.showing import add_columns

Record = dict[str, Any]


@dataclass
class Standing:
    """One method so far: its validation scores by learning rate, and how many runs failed."""

    name: str
    budget: str
    scores: dict[float, list[float]] = field(default_factory=lambda: defaultdict(list))
    failed: int = 0

    @property
    def best(self) -> tuple[float, float] | None:
        """The highest mean score over the seeds that are done, and its learning rate."""
        means = [(fmean(scores), rate) for rate, scores in self.scores.items()]
        return max(means, default=None)

    @property
    def runs(self) -> int:
        """How many runs have ended."""
        return self.failed + sum(len(scores) for scores in self.scores.values())


class ProgressWatcher:
    """Shows runs done and left, and the best of each method so far; a context manager."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._standings: dict[tuple[Any, ...], Standing] = {}
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
        if kind is KeyboardInterrupt:
            self._say(f"{self._done} of {self._total} runs are done and kept")

    def plan(self, runs: int) -> None:
        """Add ``runs`` to what is to be done."""
        self._total += runs
        self._bar.update(self._task, total=self._total)

    def done(self, record: Record) -> None:
        """Count one run; a failed one is named at once."""
        self._done += 1
        self._bar.update(self._task, completed=self._done)
        standing = self._standing(record["method"])
        if record["status"] != "done":
            standing.failed += 1
            self._say(f"failed: {record['run']}: {record['error']}")
            return
        standing.scores[record["learning_rate"]].append(record["score_validation"])
        if not self._console.is_terminal and (self._done % 25 == 0 or self._done == self._total):
            self._say(f"{self._done} of {self._total} runs done{self._leaders()}")

    def _say(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False)

    def _standing(self, method: Record) -> Standing:
        key = tuple(method[part] for part in ("budget", "name", "r", "side"))
        if key not in self._standings:
            rank = "" if method["r"] is None else f" r={method['r']}"
            side = "" if method["side"] is None else f", {method['side']}"
            self._standings[key] = Standing(f"{method['name']}{rank}{side}", str(method["budget"]))
        return self._standings[key]

    def _ranked(self) -> list[tuple[Standing, float, float]]:
        found = [(each, each.best) for each in self._standings.values()]
        ranked = [(each, *best) for each, best in found if best is not None]
        return sorted(ranked, key=lambda entry: -entry[1])

    def _leaders(self) -> str:
        """Name the best method of each budget so far, on validation."""
        leaders: dict[str, str] = {}
        for standing, score, _ in self._ranked():
            leaders.setdefault(standing.budget, f"{standing.name} {score:.3f}")
        listed = ", ".join(leaders.values())
        return f"; best on validation so far: {listed}" if listed else ""

    def _view(self) -> Group:
        table = Table(box=None, pad_edge=False)
        headings = ("budget", "best so far", "runs", "lr", "validation")
        add_columns(table, headings, texts=("budget", "best so far"), no_wrap=True)
        # Two lines are the bar's and the heading's, one the cursor's.
        for standing, score, rate in self._ranked()[: max(self._console.height - 3, 1)]:
            runs = f"{standing.runs}"
            table.add_row(standing.budget, standing.name, runs, f"{rate:g}", f"{score:.3f}")
        return Group(table, self._bar) if table.row_count else Group(self._bar)
