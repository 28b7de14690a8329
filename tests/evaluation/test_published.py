"""The rules of the papers' released code, with what they count and ours do not, and the reverse."""

from __future__ import annotations

from fractions import Fraction

import pytest

from rankwise.evaluation.arithmetic import grade_letter, grade_math, grade_number
from rankwise.evaluation.commonsense import grade_choice, options
from rankwise.evaluation.published import (
    grades_choice,
    grades_gsm8k,
    grades_letter,
    grades_math,
    grades_number,
    normal_form,
)

HUNDREDTH = Fraction(1, 1000)


@pytest.mark.parametrize(
    ("text", "reference", "ours", "published"),
    [
        ("The answer is: 18", 18, True, True),
        ("The answer is: 17.6", 18, False, True),  # rounded
        ("The answer is: 500", 5, False, True),  # taken for a percentage
        ("The answer is: 1,234,567", 1234567, True, False),  # read as 1,234
        ("the answer is 18", 18, True, False),  # spelled otherwise
        ("The answer is: \u22125", -5, True, False),
        ("The answer is: - 5", -5, True, False),
        ("The answer is: 70 000", 70000, True, False),
        ("The answer is: 1e3", 1000, True, False),
        ("The answer is: 10/2", 5, True, True),
        ("The answer is: 5/0", 5, None, True),  # divisor left out
        ("The answer is: five", 5, None, False),
        ("18", 18, None, False),
    ],
)
def test_gsm8k(text, reference, ours, published):
    assert grade_number(text, Fraction(reference)) is ours
    assert grades_gsm8k(text, Fraction(reference)) is published


@pytest.mark.parametrize(
    ("text", "reference", "ours", "published"),
    [
        (r"The answer is: \frac{1}{2}.", r"\dfrac12", True, True),
        (r"The answer is: (x+1)^2", r"x^2+2x+1", True, True),
        (r"so \boxed{3}", "3", True, False),  # a box of its own
        ("The answer is: 25", "0.25", False, True),  # taken for a percentage
        ("The answer is: 1,000", "1000", True, True),
        ("The answer is: 3", "4", False, False),
        ("it is 3", "3", None, False),
    ],
)
def test_math(text, reference, ours, published):
    assert grade_math(text, reference) is ours
    assert grades_math(text, reference) is published


@pytest.mark.parametrize(
    ("text", "ours", "published"),
    [
        ("The correct answer is Answer1", True, True),
        ("the correct answer is answer10", None, True),
        ("answer2, not answer1", False, False),
        ("answer5", None, False),
        ("answer5 or answer1", True, False),  # an option that the question has not
    ],
)
def test_choices(text, ours, published):
    assert grade_choice(text, "answer1", options("answer", 4)) is ours
    assert grades_choice(text, "answer1") is published


def test_a_truth_inside_another_word_counts_as_published_alone():
    assert grade_choice("untrue", "true", ("true", "false")) is None
    assert grades_choice("untrue", "true") is True
    assert grades_choice("untrue", "false") is False


@pytest.mark.parametrize(
    ("text", "ours", "published"),
    [
        ("The answer is 7", True, True),
        ("The answer is 7 of 9", True, False),  # the last number counts
        ("so it is 7.", None, True),  # without the mark
        ("The answer is 7.0004", True, True),
        ("none", None, False),
    ],
)
def test_other_numbers(text, ours, published):
    assert grade_number(text, Fraction(7), tolerance=HUNDREDTH) is ours
    assert grades_number(text, Fraction(7), tolerance=HUNDREDTH) is published


def test_letters():
    assert grade_letter("The answer is B", "B") is True
    assert grades_letter("The answer is B", "B") is True
    assert grade_letter("Answer: the answer is B", "B") is True
    assert grades_letter("Answer: the answer is B", "B") is False  # the A of Answer
    assert grades_letter("none", "B") is False


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        (r"\frac1{72}", r"\frac{1}{72}"),
        (r"\tfrac12", r"\frac{1}{2}"),
        (r"\sqrt3", r"\sqrt{3}"),
        ("x = 5", "5"),
        ("abc = 5", "abc=5"),
        (".5", r"\frac{1}{2}"),
        ("3/4", r"\frac{3}{4}"),
        (r"90^\circ", "90"),
        (r"\left( 1, 2 \right)", "(1,2)"),
        (r"5 \text{ cm}", "5"),
        (r"10\%", "10"),
    ],
)
def test_formulas_are_written_as_hendrycks_writes_them(formula, expected):
    assert normal_form(formula) == expected
