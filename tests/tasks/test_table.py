"""Tasks are found by name."""

from __future__ import annotations

import pytest

from rankwise.core.errors import SettingsError
from rankwise.tasks.digits import DigitsTask
from rankwise.tasks.table import task_class


def test_a_task_is_found_by_its_name():
    assert task_class("digits") is DigitsTask


def test_an_unknown_task_is_refused_with_what_there_is():
    with pytest.raises(SettingsError, match="no task 'digit'; did you mean 'digits'"):
        task_class("digit")
