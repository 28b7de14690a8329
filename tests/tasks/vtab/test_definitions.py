"""VTAB's tasks: nineteen, in three groups."""

from __future__ import annotations

import typing
from collections import Counter

import pytest

from rankwise.core.errors import SettingsError
from rankwise.tasks.vtab.definitions import DEFINITIONS, GROUPS, find_definition
from rankwise.training.settings.task import VtabName


def test_there_are_seven_natural_four_specialized_and_eight_structured_tasks():
    counts = Counter(each.group for each in DEFINITIONS.values())
    assert [counts[group] for group in GROUPS] == [7, 4, 8]


def test_a_task_has_the_classes_of_the_benchmark():
    names = ("sun397", "patch-camelyon", "smallnorb-azimuth", "dsprites-location")
    assert [find_definition(name).classes for name in names] == [397, 2, 18, 16]


def test_the_settings_know_the_same_names():
    assert set(typing.get_args(VtabName)) == DEFINITIONS.keys()


def test_an_unknown_task_is_refused_with_the_nearest_names():
    with pytest.raises(SettingsError, match=r"no task 'cifar10'; did you mean 'cifar100'"):
        find_definition("cifar10")
