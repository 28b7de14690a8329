"""Completions graded against the references of a benchmark: correct, wrong, or no answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from rankwise.core.errors import DataError
from rankwise.evaluation.arithmetic import (
    grade_letter,
    grade_math,
    grade_number,
    gsm8k_reference,
    math_reference,
)
from rankwise.evaluation.commonsense import grade_choice
from rankwise.tasks.generation.questions import Kind, Question

# Labels such as 1.8333333333333335 are rounded quotients: LLM-Adapters' evaluation, where the sets
# come from, allows as much.
_TOLERANCE = Decimal("0.001")


def grade_text(kind: Kind, question: Question, text: str) -> bool | None:
    """Say whether ``text`` answers the question correctly; None: it holds no answer.

    Raises:
        DataError: The reference is not as its kind wants it, or a judge decides.
    """
    match kind:
        case "gsm8k":
            return grade_number(text, gsm8k_reference(question.reference))
        case "math":
            return grade_math(text, math_reference(question.reference))
        case "number":
            return grade_number(text, _number(question.reference), tolerance=_TOLERANCE)
        case "letter":
            return grade_letter(text, question.reference)
        case "choice" | "ending":
            return grade_choice(text, question.reference, question.options)
    raise DataError(f"answers to {kind} are not graded: a judge decides")


def _number(reference: str) -> Decimal:
    try:
        return Decimal(reference)
    except InvalidOperation:
        raise DataError(f"the answer of a row must be a number, got {reference!r}") from None


@dataclass(frozen=True)
class GradeCounts:
    """The counts over a benchmark.

    Attributes:
        rows: Questions that were graded.
        available: Questions that the benchmark has.
        correct: Correct answers.
        unparsed: Completions in which no answer was found; they count as wrong.
        too_long: Prompts that left no room for an answer, counted among ``unparsed``.
        truncated: Completions that ended at the greatest length.
    """

    rows: int
    available: int
    correct: int
    unparsed: int
    too_long: int = 0
    truncated: int = 0

    @property
    def accuracy(self) -> float:
        """The share of correct answers among all rows."""
        return self.correct / self.rows

    @classmethod
    def from_grades(
        cls, grades: Sequence[bool | None], *, available: int, **counts: int
    ) -> GradeCounts:
        """Count the grades."""
        correct, unparsed = grades.count(True), grades.count(None)
        return cls(len(grades), available, correct, unparsed, **counts)

    def to_dict(self) -> dict[str, Any]:
        """Return the counts and the accuracy for a record."""
        return asdict(self) | {"accuracy": self.accuracy}
