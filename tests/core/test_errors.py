"""Every error of ours is caught by one base, and is also what Python's users expect it to be."""

from __future__ import annotations

import pytest

from rankwise.core import errors


@pytest.mark.parametrize(
    ("leaf", "python"),
    [
        (errors.SettingsError, ValueError),
        (errors.DataError, ValueError),
        (errors.ModelError, ValueError),
        (errors.AdapterError, ValueError),
        (errors.ChainError, RuntimeError),
        (errors.TrainingError, RuntimeError),
    ],
)
def test_each_leaf_is_a_rankwise_error_and_a_python_error(leaf, python):
    assert issubclass(leaf, errors.RankwiseError)
    assert issubclass(leaf, python)


def test_near_names_are_suggested():
    assert errors.nearest_names("lora-sbb", ["lora-sb", "full"]) == "did you mean 'lora-sb'?"


def test_without_a_near_name_all_are_listed():
    assert errors.nearest_names("zzz", ["b", "a"]) == "choose from a, b"


def test_names_by_the_thousand_are_counted_and_not_listed():
    known = [str(number) for number in range(1000, 2200)]
    assert errors.nearest_names("zzz", known) == "none of the 1,200 that there are resembles it"
