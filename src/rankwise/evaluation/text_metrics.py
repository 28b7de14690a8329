"""What written texts are worth against those that should have been written.

ROUGE (Lin 2004, "ROUGE: A Package for Automatic Evaluation of Summaries") is that of the package
``rouge-score``, Google's port of the original, with its stemmer as in Transformers' examples of
summarization. It knows letters and digits of ASCII alone: texts of other scripts score 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from rankwise.core.errors import DataError

Texts = Sequence[str | None]


def check_rows(predictions: Sequence[Any], labels: Sequence[Any]) -> None:
    """Refuse predictions that are not one a label.

    Raises:
        DataError: There are no rows, or not as many predictions as labels.
    """
    if not labels or len(predictions) != len(labels):
        raise DataError(
            "a metric needs one prediction for each of at least one label, "
            f"got {len(predictions)} predictions and {len(labels)} labels"
        )


def exact_match(predictions: Texts, labels: Sequence[str]) -> float:
    """Return the share of rows whose text is the right one, whatever blanks and line breaks.

    >>> exact_match(["a  cat", "dog", None], ["a cat", "a dog", "cow"])
    0.3333333333333333

    Raises:
        DataError: There are no rows, or not as many predictions as labels.
    """
    check_rows(predictions, labels)
    right = (
        said is not None and said.split() == wanted.split()
        for said, wanted in zip(predictions, labels, strict=True)
    )
    return sum(right) / len(labels)


def rouge(kind: str) -> Callable[[Texts, Sequence[str]], float]:
    """Return the metric ``kind``, ``rouge1``, ``rouge2`` or ``rougeL``: the mean F of the rows."""

    def compute(predictions: Texts, labels: Sequence[str]) -> float:
        check_rows(predictions, labels)
        scorer = _scorer(kind)
        scores = [
            scorer.score(wanted, said or "")[kind].fmeasure
            for said, wanted in zip(predictions, labels, strict=True)
        ]
        return float(sum(scores) / len(scores))

    return compute


@lru_cache
def _scorer(kind: str) -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer([kind], use_stemmer=True)
