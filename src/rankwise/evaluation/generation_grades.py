"""Completions graded against the references of a benchmark: correct, wrong, or no answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

from rankwise.core.errors import DataError
from rankwise.evaluation.arithmetic import (
    grade_letter,
    grade_math,
    grade_number,
    gsm8k_reference,
    math_reference,
)
from rankwise.evaluation.commonsense import grade_choice
from rankwise.evaluation.published import (
    grades_choice,
    grades_gsm8k,
    grades_letter,
    grades_math,
    grades_number,
)
from rankwise.tasks.generation.questions import Kind, Question

# Labels such as 1.8333333333333335 are rounded quotients: LLM-Adapters' evaluation, where the sets
# come from, allows as much.
_TOLERANCE = Fraction(1, 1000)


class Grade(NamedTuple):
    """What a completion is worth.

    Attributes:
        is_correct: By our rules; None: it holds no answer.
        is_correct_as_published: By the rules of the papers' released code (``published.py``).
    """

    is_correct: bool | None
    is_correct_as_published: bool


# A prompt that left no room for an answer.
NO_ANSWER = Grade(None, is_correct_as_published=False)


def grade_text(kind: Kind, question: Question, text: str) -> Grade:
    """Grade ``text`` as an answer to the question.

    Raises:
        DataError: The reference is not as its kind wants it, or a judge decides.
    """
    reference = question.reference
    match kind:
        case "gsm8k":
            number = gsm8k_reference(reference)
            return Grade(grade_number(text, number), grades_gsm8k(text, number))
        case "math":
            formula = math_reference(reference)
            return Grade(grade_math(text, formula), grades_math(text, formula))
        case "number":
            number, tolerance = _number(reference), _TOLERANCE
            return Grade(
                grade_number(text, number, tolerance=tolerance),
                grades_number(text, number, tolerance=tolerance),
            )
        case "letter":
            return Grade(grade_letter(text, reference), grades_letter(text, reference))
        case "choice":
            chosen = grade_choice(text, reference, question.options)
            return Grade(chosen, grades_choice(text, reference))
    raise DataError(f"answers to {kind} are not graded: a judge decides")


def _number(reference: str) -> Fraction:
    try:
        return Fraction(reference)
    except (ValueError, ZeroDivisionError):
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
        correct_as_published: Correct ones by the rules of the papers' released code; None where
            nothing was graded by them, as options are weighed by their likelihood.
    """

    rows: int
    available: int
    correct: int
    unparsed: int
    too_long: int = 0
    truncated: int = 0
    correct_as_published: int | None = None

    @property
    def accuracy(self) -> float:
        """The share of correct answers among all rows."""
        return self.correct / self.rows

    @property
    def accuracy_as_published(self) -> float | None:
        """The share that the papers' released code would print, where it grades at all."""
        published = self.correct_as_published
        return None if published is None else published / self.rows

    @classmethod
    def from_grades(cls, grades: Sequence[Grade], *, available: int, **counts: int) -> GradeCounts:
        """Count the grades."""
        ours = [grade.is_correct for grade in grades]
        published = sum(grade.is_correct_as_published for grade in grades)
        return cls(
            len(grades),
            available,
            ours.count(True),
            ours.count(None),
            correct_as_published=published,
            **counts,
        )
