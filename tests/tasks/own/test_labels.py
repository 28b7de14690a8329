"""Texts and few whole numbers are classes, other numbers a regression; nothing is left out."""

from __future__ import annotations

import pytest

from rankwise.core.errors import DataError
from rankwise.tasks.own.labels import read_labels


def labels(train, *, target=None, names=None, **others):
    return read_labels({"train": train, **others}, target=target, names=names, place="a.csv, 'y'")


@pytest.mark.parametrize(
    ("values", "classes"),
    [
        (["good", "bad", "good"], ("bad", "good")),
        ([10, 2, 2], ("2", "10")),
        ([1.0, 2.0, 1.0], ("1", "2")),
        ([True, False], ("False", "True")),
    ],
)
def test_classes_stand_in_order(values, classes):
    assert labels(values).classes == classes


def test_the_numbers_of_classes_are_those_of_their_names():
    assert labels(["good", "bad", "good"]).values == {"train": [1, 0, 1]}


@pytest.mark.parametrize("values", [[0.5, 1.0], list(range(60))])
def test_fractions_and_many_numbers_are_a_regression(values):
    found = labels(values)
    assert (found.classes, found.target) == (None, "regression")
    assert found.values["train"] == values


def test_what_the_labels_are_can_be_said():
    assert labels([1, 2, 3], target="regression").classes is None
    assert labels([0.5, 1.5], target="classes").classes == ("0.5", "1.5")
    with pytest.raises(DataError, match=r"train: a regression needs numbers, got 'many'"):
        labels([1, "many"], target="regression")


def test_a_data_set_that_names_its_classes_keeps_their_order():
    assert labels([1, 0, 1], names=["pos", "neg"]).classes == ("pos", "neg")


@pytest.mark.parametrize("empty", [None, "", "  ", float("nan")])
def test_rows_without_a_label_are_named(empty):
    with pytest.raises(DataError, match=r"'y', train: 2 of 4 rows have no label \(row 2, 4\)"):
        labels(["a", empty, "b", empty])


def test_the_hub_s_number_for_no_label_is_none():
    with pytest.raises(DataError, match=r"test: 1 of 1 rows have no label"):
        labels([0, 1], names=["a", "b"], test=[-1])


@pytest.mark.parametrize(("values", "target"), [(["a", "a"], None), ([0.5, 0.5], "regression")])
def test_constant_labels_are_refused(values, target):
    with pytest.raises(
        DataError, match=r"all rows have the same label, .*: there is nothing to le"
    ):
        labels(values, target=target)


def test_a_label_that_training_lacks_is_refused_and_the_nearest_named():
    with pytest.raises(
        DataError, match=r"test has the class 'goood', which training lacks; did you mean 'good'"
    ):
        labels(["good", "bad"], test=["goood"])
