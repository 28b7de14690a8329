"""Every task is known by its name before it is built."""

from __future__ import annotations

import typing

from rankwise.evaluation.metrics import METRICS
from rankwise.tasks.digits import DigitsTask
from rankwise.tasks.table import TASKS
from rankwise.training.settings.run import RunSettings


def test_a_task_stands_under_its_own_name_with_version_and_metrics():
    assert TASKS[DigitsTask.name].metrics == DigitsTask.metrics
    assert all(task.version >= 1 for task in TASKS.values())


def test_every_metric_is_known():
    assert {name for task in TASKS.values() for name in task.metrics} <= METRICS.keys()


def test_the_settings_know_the_same_tasks():
    kinds = typing.get_args(RunSettings.model_fields["task"].annotation)
    names = {
        name for kind in kinds for name in typing.get_args(kind.model_fields["name"].annotation)
    }
    assert names == TASKS.keys()
