"""Tasks are found by their names."""

from __future__ import annotations

from rankwise.tasks.digits import DigitsTask
from rankwise.tasks.table import TASKS


def test_each_task_stands_under_its_own_name():
    assert TASKS["digits"] is DigitsTask
    assert all(task.name == name for name, task in TASKS.items())


def test_each_task_states_version_and_metric():
    assert all(task.version >= 1 and task.metrics for task in TASKS.values())
