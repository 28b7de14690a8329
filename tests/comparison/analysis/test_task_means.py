"""Means over tasks: of the groups of VTAB-1K, and of the tasks themselves."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from rankwise.comparison.analysis.task_means import mean_of_groups, means_over_tasks, means_table
from rankwise.core.errors import SettingsError
from tests.comparison import made_records as made


def row(name, scores, *, seeds=(0, 1)):
    return made.row(name, r=8, budget="r = 8", scores=tuple(scores), seeds=tuple(seeds))


def summary(task, *rows):
    return made.summary(rows, task=task)


SVHN = summary("svhn", row("lora", [0.4, 0.6]), row("delora", [0.5, 0.5]))
PETS = summary("pets", row("lora", [0.7, 0.7]), row("delora", [0.9, 0.9]))
EUROSAT = summary("eurosat", row("lora", [0.9, 0.9]), row("delora", [0.8, 0.8]))


def shown(*summaries):
    console = Console(width=160, file=io.StringIO())
    tasks = [each.task for each in summaries]
    console.print(means_table(tasks, means_over_tasks(summaries)))
    return console.file.getvalue()


def test_a_group_counts_once_however_many_tasks_it_has():
    assert mean_of_groups({"svhn": 0.5, "pets": 0.7, "eurosat": 0.9}) == pytest.approx(0.75)


def test_both_means_are_over_seeds_and_tasks():
    lora, delora = means_over_tasks([SVHN, PETS, EUROSAT])
    assert lora.method == made.method("lora", r=8, budget="r = 8")
    assert lora.groups == pytest.approx({"natural": 0.6, "specialized": 0.9})
    assert lora.of_groups.mean == pytest.approx(0.75)
    assert lora.of_tasks.mean == pytest.approx(0.7)
    # By seed the means over tasks are 2/3 and 11/15, so s/√2 = 1/30 and t is 12.706.
    assert lora.of_tasks.high - lora.of_tasks.mean == pytest.approx(12.706 / 30, rel=1e-4)
    assert delora.of_tasks.mean == pytest.approx(11 / 15)


def test_seeds_are_those_that_all_tasks_share():
    more = summary("pets", row("lora", [0.1, 0.7, 0.7], seeds=(5, 0, 1)))
    one = means_over_tasks([summary("svhn", SVHN.methods[0]), more])
    assert one[0].of_tasks.mean == pytest.approx(0.6)


def test_tasks_that_share_no_seed_are_refused():
    other = summary("pets", row("lora", [0.7, 0.7], seeds=(5, 6)))
    with pytest.raises(SettingsError, match=r"share no seed.* svhn \[0, 1\]; pets \[5, 6\]"):
        means_over_tasks([summary("svhn", SVHN.methods[0]), other])


def test_a_method_without_a_score_somewhere_has_no_means():
    failed = summary(
        "pets", row("lora", [0.7, 0.7]), made.failed_row("delora", r=8, budget="r = 8")
    )
    lora, delora = means_over_tasks([SVHN, failed])
    assert lora.of_tasks is not None
    assert (delora.of_tasks, delora.missing) == (None, ("pets",))
    assert "no pets" in shown(SVHN, failed)


def test_one_task_twice_is_refused():
    with pytest.raises(SettingsError, match="got svhn twice: name one comparison a task"):
        means_over_tasks([SVHN, SVHN])


@pytest.mark.parametrize(
    "text",
    ["3 of the 19 tasks of VTAB-1K", "natural", "specialized", "mean of groups", "0.750 (", "0.70"],
)
def test_the_table_shows_both_means_and_how_many_tasks_they_are_of(text):
    assert text in shown(SVHN, PETS, EUROSAT)


def test_tasks_without_groups_have_the_mean_over_tasks_alone():
    digits = summary("digits", row("lora", [0.9, 0.9]))
    printed = shown(summary("mnist", row("lora", [0.7, 0.7])), digits)
    assert "Means over 2 tasks" in printed
    assert "0.800" in printed
    assert "groups" not in printed
