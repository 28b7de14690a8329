"""Metrics by hand, with answers that are none, and where their formulas divide by zero."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankwise.core.errors import DataError
from rankwise.evaluation.metrics import (
    METRICS,
    accuracy,
    f1,
    likelihood,
    matthews,
    pearson,
    spearman,
)

CLASSES = [accuracy, f1, matthews]
SCORES = [pearson, spearman]

number = st.floats(-1e6, 1e6) | st.integers(-5, 5)
rows_of_classes = st.lists(
    st.tuples(st.none() | st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=20
)
rows_of_scores = st.lists(
    st.tuples(st.none() | number | st.just(math.nan), number), min_size=1, max_size=20
)


def test_classes_by_hand():
    # Right: 1 of class 1, 2 of class 0; one false alarm, two misses.
    predictions, labels = [1, 0, 0, 0, 0, 1], [1, 1, 1, 0, 0, 0]
    assert accuracy(predictions, labels) == pytest.approx(3 / 6)
    assert f1(predictions, labels) == pytest.approx(2 * 1 / (2 + 3))
    # (right pairs 1 · 2 - wrong pairs 1 · 2) / sqrt(...) = 0.
    assert matthews(predictions, labels) == pytest.approx(0)


def test_matthews_by_hand():
    # (3 · 1 - 1 · 1) / sqrt(4 · 4 · 2 · 2)
    assert matthews([1, 1, 1, 1, 0, 0], [1, 1, 1, 0, 1, 0]) == pytest.approx(2 / 8)


def test_correlations_by_hand():
    # Deviations (-1, 0, 1) and (-4/3, -1/3, 5/3): 3 / sqrt(2 · 42/9). The order is the same.
    assert pearson([1, 2, 3], [1, 2, 4]) == pytest.approx(3 / math.sqrt(2 * 42 / 9))
    assert spearman([1, 2, 3], [1, 2, 4]) == pytest.approx(1)
    assert spearman([3, 2, 1], [1, 2, 4]) == pytest.approx(-1)


def test_the_likelihood_by_hand():
    # Three tokens of probability 1/2, 1/2 and 1/8: the cube root of 1/32.
    assert likelihood([math.log(1 / 4), math.log(1 / 8)], [2, 1]) == pytest.approx(32 ** (-1 / 3))
    assert likelihood([math.log(1 / 4), math.nan], [2, 1]) == 0


@pytest.mark.parametrize("metric", CLASSES)
def test_no_answer_is_the_other_class(metric):
    assert metric([1, None, None, 0], [1, 1, 0, 0]) == metric([1, 0, 1, 0], [1, 1, 0, 0])


@pytest.mark.parametrize("metric", SCORES)
@pytest.mark.parametrize("nothing", [None, math.nan, math.inf])
def test_no_answer_is_the_score_farthest_from_the_right_one(metric, nothing):
    labels = [0.0, 1.0, 4.0, 5.0]
    assert metric([0.0, nothing, nothing, 5.0], labels) == metric([0.0, 5.0, 0.0, 5.0], labels)
    assert metric([nothing] * 4, labels) < -0.8


@pytest.mark.parametrize(
    ("metric", "predictions", "labels"),
    [
        (matthews, [1, 1], [1, 1]),
        (matthews, [1, 1], [0, 1]),
        (matthews, [0, 1], [1, 1]),
        (f1, [0, 0], [0, 0]),
        (pearson, [2.5, 2.5], [1.0, 2.0]),
        (pearson, [1.0, 2.0], [3.0, 3.0]),
        (pearson, [1e9, 1e9 + 1e-6], [1.0, 2.0]),
        (pearson, [1.0], [1.0]),
        (spearman, [2.5, 2.5], [1.0, 2.0]),
        (spearman, [1.0], [1.0]),
    ],
)
def test_what_is_not_defined_is_zero(metric, predictions, labels):
    assert metric(predictions, labels) == 0.0


def test_a_prediction_outside_the_classes_of_the_labels_is_wrong():
    assert accuracy([2, 1], [0, 1]) == 0.5
    assert f1([2, 1], [0, 1]) == 1.0
    assert f1([2, 1], [1, 1]) == pytest.approx(2 * 1 / (1 + 2))


@given(rows_of_classes)
def test_classes_stay_in_range(rows):
    for name in ("accuracy", "f1", "matthews"):
        assert_in_range(name, rows)


@given(rows_of_scores)
def test_scores_stay_in_range(rows):
    for name in ("pearson", "spearman"):
        assert_in_range(name, rows)


def assert_in_range(name, rows):
    metric = METRICS[name]
    value = metric.compute([row[0] for row in rows], [row[1] for row in rows])
    assert type(value) is float
    assert metric.low <= value <= metric.high


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize(("predictions", "labels"), [([], []), ([1], [1, 0])])
def test_there_must_be_one_prediction_a_label(name, predictions, labels):
    message = f"got {len(predictions)} predictions and {len(labels)} labels"
    with pytest.raises(DataError, match=message):
        METRICS[name].compute(predictions, labels)
