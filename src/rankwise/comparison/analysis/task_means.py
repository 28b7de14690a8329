"""Means over several tasks: over the groups of VTAB-1K, and over the tasks themselves.

VTAB-1K reports the mean of its three group means, many papers the mean over its nineteen tasks. As
the groups have 7, 4 and 8 tasks, these differ: both are shown, and which is which.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from rich import box
from rich.table import Table
from rich.text import Text

from rankwise.comparison.analysis.statistics import Interval, mean_interval
from rankwise.comparison.records import Summary, SummaryRow
from rankwise.core.errors import SettingsError
from rankwise.tasks.vtab.definitions import DEFINITIONS, GROUPS
from rankwise.training.records import MethodIdentity


@dataclass(frozen=True)
class Means:
    """The means of one method.

    Attributes:
        groups: The mean over the tasks of each group, for those groups that occur.
        of_groups: The mean of these, with its interval over seeds; None if a task has no group.
        of_tasks: The mean over all tasks, with its interval over seeds.
        missing: Tasks in which the method has no score: then there are no means.
    """

    method: MethodIdentity
    groups: dict[str, float]
    of_groups: Interval | None
    of_tasks: Interval | None
    missing: tuple[str, ...] = ()


def mean_of_groups(scores: Mapping[str, float]) -> float:
    """Return the mean of the group means of ``scores``, by task.

    >>> mean_of_groups({"svhn": 0.5, "pets": 0.7, "eurosat": 0.9})
    0.75
    """
    return fmean(_group_means(scores).values())


def means_over_tasks(summaries: Sequence[Summary]) -> list[Means]:
    """Return the means of every method over the tasks of ``summaries``, one summary a task.

    Intervals (95 %, Student's t) are over the seeds that all tasks share: they are those of a mean
    over exactly these tasks.

    Raises:
        SettingsError: Two summaries are of one task.
    """
    tasks = [summary.task for summary in summaries]
    if twice := sorted({task for task in tasks if tasks.count(task) > 1}):
        raise SettingsError(
            f"means are over different tasks, got {twice[0]} twice: name one comparison a task"
        )
    by_task = {
        summary.task: {row.identity: row for row in summary.methods} for summary in summaries
    }
    methods = dict.fromkeys(method for rows in by_task.values() for method in rows)
    return [
        _means(method, {task: rows.get(method) for task, rows in by_task.items()})
        for method in methods
    ]


def means_table(tasks: Sequence[str], means: Sequence[Means]) -> Table:
    """Return one row a method; one without a score in some task says in which."""
    groups = [group for group in GROUPS if any(group in each.groups for each in means)]
    count = f"{len(tasks)} tasks"
    if all(task in DEFINITIONS for task in tasks):
        count = f"{len(tasks)} of the {len(DEFINITIONS)} tasks of VTAB-1K"
    table = Table(title=f"Means over {count}", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("budget", "method", "r", "side"):
        table.add_column(column, no_wrap=True)
    for column in (*groups, *(["mean of groups"] if groups else []), "mean of tasks"):
        table.add_column(column, justify="right", no_wrap=True)
    for each in means:
        method = each.method
        rank = "–" if method.r is None else str(method.r)
        head = [method.budget, method.name, rank, method.side or ""]
        if each.missing:
            empty = [""] * (len(table.columns) - 5)
            table.add_row(*map(Text, (*head, *empty, f"no {', '.join(each.missing)}")))
            continue
        cells = [f"{each.groups[group]:.3f}" for group in groups if group in each.groups]
        means_of = [each.of_groups] if groups else []
        means_shown = [_shown(mean) for mean in (*means_of, each.of_tasks)]
        table.add_row(*map(Text, (*head, *cells, *means_shown)))
    return table


def _means(method: MethodIdentity, rows: Mapping[str, SummaryRow | None]) -> Means:
    scored = {task: row for task, row in rows.items() if row is not None and row.scores}
    if missing := tuple(task for task in rows if task not in scored):
        return Means(method, {}, None, None, missing)
    by_seed = _by_seed(scored)
    whole = {task: fmean(scores[task] for scores in by_seed) for task in scored}
    of_tasks = mean_interval([fmean(scores.values()) for scores in by_seed])
    if not all(task in DEFINITIONS for task in scored):
        return Means(method, {}, None, of_tasks)
    of_groups = mean_interval([mean_of_groups(scores) for scores in by_seed])
    return Means(method, _group_means(whole), of_groups, of_tasks)


def _by_seed(rows: Mapping[str, SummaryRow]) -> list[dict[str, float]]:
    """Return, for each seed that all rows have, the scores by task."""
    scores = {task: dict(zip(row.seeds, row.scores)) for task, row in rows.items()}
    shared = set.intersection(*(set(each) for each in scores.values()))
    if not shared:
        raise SettingsError(
            "the comparisons share no seed: run them with the same --compare.seeds, got "
            + "; ".join(f"{task} {sorted(each)}" for task, each in scores.items())
        )
    return [{task: each[seed] for task, each in scores.items()} for seed in sorted(shared)]


def _group_means(scores: Mapping[str, float]) -> dict[str, float]:
    by_group = {
        group: [score for task, score in scores.items() if DEFINITIONS[task].group == group]
        for group in GROUPS
    }
    return {group: fmean(values) for group, values in by_group.items() if values}


def _shown(mean: Interval | None) -> str:
    if mean is None:
        return ""
    if mean.low is None:
        return f"{mean.mean:.3f}"
    return f"{mean.mean:.3f} ({mean.low:.3f} – {mean.high:.3f})"
