"""The table of a paper made again: each method's score beside the published one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from rich import box
from rich.table import Table
from rich.text import Text

from rankwise.comparison.experiments import Experiment
from rankwise.comparison.records import Summary
from rankwise.core.outside_text import one_line

Cell = tuple[float | None, float | None]


@dataclass(frozen=True)
class Reproduced:
    """A row of the table: by task ours and the published score, each where there is one."""

    method: str
    cells: dict[str, Cell]

    def means(self) -> Cell:
        """Return the means over the tasks; None where a score is missing."""
        columns = zip(*self.cells.values(), strict=True)
        ours, theirs = (
            None if None in column else fmean(each for each in column if each is not None)
            for column in columns
        )
        return ours, theirs


def reproduced(
    experiment: Experiment,
    summaries: Mapping[str, Summary],
    answers: Mapping[str, Mapping[str, float]],
) -> list[Reproduced]:
    """Return one row a method, in the order of the first comparison.

    Args:
        experiment: The table of the paper.
        summaries: Of the comparisons, by task.
        answers: Where the table is of benchmarks: their scores by method and benchmark.
    """
    labels = dict.fromkeys(row.label for each in summaries.values() for row in each.methods)
    rows = []
    for label in labels:
        published = experiment.published.get(label, {})
        if experiment.questions:
            ours = answers.get(label, {})
            cells = {name: (ours.get(name), published.get(name)) for name in experiment.questions}
        else:
            cells = {
                task: _cell(summary, label, published.get(task))
                for task, summary in summaries.items()
            }
        rows.append(Reproduced(label, cells))
    return rows


def _cell(summary: Summary, label: str, published: float | None) -> Cell:
    row = next((row for row in summary.methods if row.label == label), None)
    if row is None:
        return None, published
    return row.score_mean, published if published is not None else row.published


def reproduced_table(title: str, rows: Sequence[Reproduced]) -> Table:
    """Return the table for a terminal: ours, and the published score in brackets."""
    table = Table(title=one_line(title), box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("method", no_wrap=True)
    for heading in _headings(rows):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(one_line(cell)) for cell in _written_row(row)))
    return table


def reproduced_text(title: str, rows: Sequence[Reproduced]) -> str:
    """Return the same in Markdown."""
    headings = ["method", *_headings(rows)]
    lines = [f"# {title}", "", "Ours, and in brackets the published score.", ""]
    lines += [_line(headings), _line(["---"] * len(headings))]
    return "\n".join([*lines, *(_line(_written_row(row)) for row in rows)]) + "\n"


def _headings(rows: Sequence[Reproduced]) -> list[str]:
    tasks = list(rows[0].cells) if rows else []
    return [*tasks, "mean"] if len(tasks) > 1 else tasks


def _written_row(row: Reproduced) -> list[str]:
    cells = list(row.cells.values())
    return [row.method, *map(_written, [*cells, row.means()] if len(cells) > 1 else cells)]


def _written(cell: Cell) -> str:
    ours, theirs = ("–" if score is None else f"{score:.3f}" for score in cell)
    return f"{ours} ({theirs})"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
