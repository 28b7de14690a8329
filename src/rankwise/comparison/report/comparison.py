"""A comparison as its page sees it: the rows of the summary, their budgets, and their runs.

A run belongs to the row whose identity it carries.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

from rankwise.comparison.records import Summary, SummaryRow
from rankwise.pages.palette import colours_of
from rankwise.training.records import FailedRun, MethodIdentity, RunRecord
from rankwise.training.settings.grid import read_point

Run: TypeAlias = RunRecord | FailedRun


@dataclass(frozen=True)
class Comparison:
    """A summary, and the records of the runs that it rests on."""

    summary: Summary
    runs: Sequence[Run]

    @property
    def rows(self) -> tuple[SummaryRow, ...]:
        """One row a method."""
        return self.summary.methods

    @property
    def baseline(self) -> str:
        """The name of the method that the others are measured against."""
        return self.summary.protocol.baseline

    @cached_property
    def colours(self) -> dict[str, str]:
        """The colour of each method, the baseline's first: that of the text."""
        ranks = (row for entry in self.summary.equal_rank for row in entry.rows)
        return colours_of((row.name for row in (*self.rows, *ranks)), in_ink=self.baseline)

    @cached_property
    def scored(self) -> list[SummaryRow]:
        """The rows that came to a score."""
        return [row for row in self.rows if row.is_scored]

    @cached_property
    def failed_runs(self) -> list[FailedRun]:
        """The runs that broke down."""
        return [run for run in self.runs if isinstance(run, FailedRun)]

    @cached_property
    def metric(self) -> str:
        """The name of the metric; the runs of one comparison share it."""
        metrics = (run.metric for run in self.runs if isinstance(run, RunRecord))
        return self.summary.metric or next(metrics, "score")

    @cached_property
    def budgets(self) -> list[str]:
        """The budgets in their order of appearance."""
        return list(dict.fromkeys(row.budget for row in self.rows))

    @cached_property
    def views(self) -> list[str]:
        """The budgets that hold a contest: at least two rows."""
        counted = [row.budget for row in self.rows]
        return [budget for budget in self.budgets if counted.count(budget) > 1]

    def rows_in(self, view: str | None) -> list[SummaryRow]:
        """Return the rows of one budget, and with them every row that is alone in its own.

        A budget with one row (full fine-tuning, as a rule) has no contest of its own, so it serves
        as a reference beside each of the others.
        """
        return [row for row in self.rows if row.budget == view or row.budget not in self.views]

    def scored_in(self, view: str | None) -> list[SummaryRow]:
        """Return the rows of a view that came to a score."""
        return [row for row in self.rows_in(view) if row.is_scored]

    def runs_of(self, row: MethodIdentity) -> list[Run]:
        """Return the runs of a row, all learning rates and seeds, failed ones included."""
        return self._runs_by_method.get(row.identity, [])

    def chosen_runs(self, row: SummaryRow) -> list[RunRecord]:
        """Return the finished runs of a row with the settings that were chosen for it."""
        return [
            run
            for run in self.rate_runs(row)
            if isinstance(run, RunRecord) and run.learning_rate == row.learning_rate
        ]

    def rate_runs(self, row: SummaryRow) -> list[Run]:
        """Return the runs of a row that differ from those chosen in learning rate and seed alone.

        Of a row of which none was chosen they are all.
        """
        chosen = tuple(row.settings.items())
        names = list(row.settings)
        runs = self.runs_of(row)
        if not names:
            return runs
        return [run for run in runs if read_point(run.settings, names).others == chosen]

    @cached_property
    def _runs_by_method(self) -> dict[MethodIdentity, list[Run]]:
        found = defaultdict(list)
        for run in self.runs:
            found[run.method].append(run)
        return dict(found)


def best_of(rows: Sequence[SummaryRow]) -> SummaryRow | None:
    """Return the scored row with the highest mean; None where fewer than two can be compared."""
    scores = [(row.score_mean, row) for row in rows if row.score_mean is not None]
    return max(scores, key=lambda each: each[0])[1] if len(scores) > 1 else None
