"""The metrics of the tasks by name, from scikit-learn and SciPy, defined for every input.

A prediction of None (the output was no answer at all, for example a text that is no label word) is
wrong, never left out: as a class it counts as another one than the right one, as a score as the end
of the labels' range that lies farther from the right one. A score that is not finite is no answer.

Where a formula divides by zero, the value is 0: Matthews' coefficient if labels or predictions
have one class only, F1 if class 1 neither occurs nor is predicted, a correlation if there are
fewer than two rows or if labels or predictions are constant (up to rounding).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats
from sklearn.metrics import f1_score, matthews_corrcoef, r2_score

from rankwise.evaluation.text_metrics import check_rows, exact_match, rouge
from rankwise.evaluation.word_metrics import entity_f1, word_accuracy, word_macro_f1
from rankwise.tasks.answers import Value

Predictions = Sequence[Value | None]
Labels = Sequence[Value]

# Below this ratio of spread to mean SciPy itself calls a column nearly constant.
_ROUNDING = float(np.finfo(np.float64).eps ** 0.75)


@dataclass(frozen=True)
class Metric:
    """A number between ``low`` and ``high``; higher is better, unless it ``falls``.

    Attributes:
        compute: Takes predictions and labels, one a row, and returns the number.
        low: The least value it can have.
        high: The greatest value it can have.
        falls: Whether lower is better; such a metric is shown, and nothing is chosen by it.
        package: What it needs beside Rankwise, as it is imported.
    """

    compute: Callable[[Any, Any], float]
    low: float
    high: float
    falls: bool = False
    package: str | None = None


def accuracy(predictions: Predictions, labels: Labels) -> float:
    """Return the share of rows whose class is right.

    >>> accuracy([1, None, 0, 0], [1, 1, 0, 1])
    0.5

    Raises:
        DataError: There are no rows, or not as many predictions as labels.
    """
    # scikit-learn's accuracy_score is the same mean, after looking for longer at what it was given
    # than a small model computes.
    return float(np.mean(np.asarray(_classes(predictions, labels)) == np.asarray(labels)))


def f1(predictions: Predictions, labels: Labels) -> float:
    """Return F1 of class 1: 2 · right / (predicted + occurring).

    Raises:
        DataError: There are no rows, or not as many predictions as labels.
    """
    predicted = np.asarray(_classes(predictions, labels)) == 1
    occurring = np.asarray(labels) == 1
    if not predicted.any() and not occurring.any():
        return 0.0
    return float(f1_score(occurring, predicted))


def macro_f1(predictions: Predictions, labels: Labels) -> float:
    """Return the mean over the classes that occur of their F1.

    Raises:
        DataError: There are no rows, or not as many predictions as labels.
    """
    predicted = _classes(predictions, labels)
    options: Any = {"labels": sorted(set(labels)), "average": "macro", "zero_division": 0.0}
    return float(f1_score(labels, predicted, **options))


def matthews(predictions: Predictions, labels: Labels) -> float:
    """Return Matthews' correlation of the classes, in [-1, 1].

    Raises:
        DataError: There are no rows, or not as many predictions as labels.
    """
    predicted = _classes(predictions, labels)
    if len(set(predicted)) == 1 or len(set(labels)) == 1:
        return 0.0
    return float(np.clip(matthews_corrcoef(labels, predicted), -1, 1))


def pearson(predictions: Predictions, labels: Labels) -> float:
    """Return the linear correlation of the scores, in [-1, 1].

    Raises:
        DataError: There are no rows, or not as many predictions as labels.
    """
    predicted, right = _scores(predictions, labels)
    if _is_constant(predicted) or _is_constant(right):
        return 0.0
    return _coefficient(stats.pearsonr(predicted, right))


def spearman(predictions: Predictions, labels: Labels) -> float:
    """Return the correlation of the scores' ranks, in [-1, 1]; ties share their mean rank.

    Raises:
        DataError: There are no rows, or not as many predictions as labels.
    """
    predicted, right = _scores(predictions, labels)
    if np.ptp(predicted) == 0 or np.ptp(right) == 0:
        return 0.0
    return _coefficient(stats.spearmanr(predicted, right))


def r2(predictions: Predictions, labels: Labels) -> float:
    """Return 1 - Σ (score - label)² / Σ (label - mean label)²; 0 is no better than the mean.

    Raises:
        DataError: There are no rows, or not as many predictions as labels.
    """
    predicted, right = _scores(predictions, labels)
    if np.ptp(right) == 0:
        return 0.0
    return float(r2_score(right, predicted))


def likelihood(predictions: Predictions, labels: Labels) -> float:
    """Return exp(Σ log p / Σ tokens), the geometric mean of the right tokens' probabilities.

    It is 1 / perplexity, so it grows as the loss falls. A row's prediction is its sum of log p, its
    label the number of its tokens; a row without a finite sum makes it 0.

    >>> likelihood([math.log(0.5), math.log(0.25)], [1, 2])
    0.5

    Raises:
        DataError: There are no rows, or not as many predictions as labels.
    """
    check_rows(predictions, labels)
    tokens = sum(labels)
    sums = [-math.inf if each is None or not math.isfinite(each) else each for each in predictions]
    return math.exp(min(sum(sums) / tokens, 0.0)) if tokens > 0 else 0.0


def perplexity(predictions: Predictions, labels: Labels) -> float:
    """Return exp(-Σ log p / Σ tokens), 1 / :func:`likelihood`; infinite where that is 0.

    Raises:
        DataError: There are no rows, or not as many predictions as labels.
    """
    found = likelihood(predictions, labels)
    return 1 / found if found else math.inf


def reward_accuracy(predictions: Predictions, labels: Labels) -> float:
    """Return the share of pairs whose margin is above 0; those without one count as not.

    Raises:
        DataError: There are no rows, or not as many predictions as labels.
    """
    check_rows(predictions, labels)
    return sum(each is not None and each > 0 for each in predictions) / len(labels)


def reward_margin(predictions: Predictions, labels: Labels) -> float:
    """Return the mean margin, β times how much more likely the chosen one became than the other.

    Raises:
        DataError: There are no rows, or not as many predictions as labels.
    """
    check_rows(predictions, labels)
    return float(sum(each or 0.0 for each in predictions) / len(labels))


METRICS: dict[str, Metric] = {
    "accuracy": Metric(accuracy, 0.0, 1.0),
    "f1": Metric(f1, 0.0, 1.0),
    "matthews": Metric(matthews, -1.0, 1.0),
    "pearson": Metric(pearson, -1.0, 1.0),
    "spearman": Metric(spearman, -1.0, 1.0),
    "likelihood": Metric(likelihood, 0.0, 1.0),
    "macro_f1": Metric(macro_f1, 0.0, 1.0),
    "r2": Metric(r2, -math.inf, 1.0),
    "perplexity": Metric(perplexity, 1.0, math.inf, falls=True),
    "reward_accuracy": Metric(reward_accuracy, 0.0, 1.0),
    "reward_margin": Metric(reward_margin, -math.inf, math.inf),
    "exact_match": Metric(exact_match, 0.0, 1.0),
    "word_accuracy": Metric(word_accuracy, 0.0, 1.0),
    "word_macro_f1": Metric(word_macro_f1, 0.0, 1.0),
    "entity_f1": Metric(entity_f1, 0.0, 1.0),
    **{
        kind: Metric(rouge(kind), 0.0, 1.0, package="rouge_score")
        for kind in ("rouge1", "rouge2", "rougeL")
    },
}


def _classes(predictions: Predictions, labels: Labels) -> list[Value]:
    check_rows(predictions, labels)
    return [
        (1 if label == 0 else 0) if prediction is None else prediction
        for prediction, label in zip(predictions, labels, strict=True)
    ]


def _scores(predictions: Predictions, labels: Labels) -> tuple[np.ndarray, np.ndarray]:
    check_rows(predictions, labels)
    low, high = min(labels), max(labels)
    predicted = [
        prediction
        if prediction is not None and math.isfinite(prediction)
        else (low if label - low > high - label else high)
        for prediction, label in zip(predictions, labels, strict=True)
    ]
    return np.asarray(predicted, dtype=np.float64), np.asarray(labels, dtype=np.float64)


def _coefficient(result: Any) -> float:
    # Rounding may lead a little past the ends.
    return float(np.clip(result.statistic, -1, 1))


def _is_constant(column: np.ndarray) -> bool:
    mean = column.mean()
    return bool(np.linalg.norm(column - mean) <= _ROUNDING * abs(mean))
