"""Numbers and formulas: found where they belong, equal where they are, wrong where they are not."""

from __future__ import annotations

import gzip
import json
import re
from fractions import Fraction

import pytest

from rankwise.core.errors import DataError
from rankwise.evaluation.arithmetic import (
    first_number,
    grade_letter,
    grade_math,
    grade_number,
    gsm8k_reference,
    last_boxed,
    math_reference,
)


def real_rows(file):
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        (" $1,234,567 in all", "1234567"),
        ("-3.50", "-3.50"),
        (".5", "0.5"),
        ("12,34", "12"),
        ("70 000 in all", "70000"),
        ("1\u202f234\u202f567", "1234567"),
        ("3 100th", "3"),
        ("\u22125", "-5"),
        (" - 5", "-5"),
        (":\n- 5 apples", "5"),
        ("-$5", "-5"),
        ("$-5", "-5"),
        ("1/2", "1/2"),
        ("-1/2", "-1/2"),
        ("1 1/2 cups", "3/2"),
        (r"\frac{1}{2}", "1/2"),
        ("5/0", None),
        ("5/6/2024", "5"),
        ("1e3", "1000"),
        ("1.5E\u22122", "3/200"),
        ("2em", "2"),
        ("5.", "5"),
        ("**7** apples of 9", "7"),
        ("none", None),
        ("$", None),
        ("-", None),
    ],
)
def test_the_first_number_is_read_without_separators(text, number):
    assert first_number(text) == (None if number is None else Fraction(number))


@pytest.mark.parametrize(
    ("text", "grade"),
    [
        ("She has 3 + 4 = 7.\nThe answer is: 7", True),
        ("the answer is $7.00 a day", True),
        ("The answer is: 8", False),
        ("The answer is 6. No: The answer is 7", True),
        ("The answer is: seven", None),
        ("7", None),
        ("", None),
    ],
)
def test_a_number_counts_after_the_mark_alone(text, grade):
    assert grade_number(text, Fraction(7)) is grade


def test_numbers_are_not_rounded_unless_a_tolerance_says_so():
    assert grade_number("The answer is 17.6", Fraction(18)) is False
    assert grade_number("The answer is 0.333", Fraction("0.33333"), tolerance=Fraction("0.001"))


def test_a_letter_may_stand_in_brackets():
    assert grade_letter("The answer is (C).", "C") is True
    assert grade_letter("The answer is: B", "C") is False
    assert grade_letter("The answer is 12", "C") is None


@pytest.mark.parametrize(
    ("text", "formula"),
    [
        (r"\boxed{1} and \boxed{\frac{a}{b}}", r"\frac{a}{b}"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed 7", "7"),
        (r"\boxed{open", None),
        ("none", None),
    ],
)
def test_the_last_box_is_read_with_its_braces(text, formula):
    assert last_boxed(text) == formula


@pytest.mark.parametrize(
    ("text", "reference", "grade"),
    [
        (r"The answer is: \frac{1}{2}", r"\dfrac{2}{4}", True),
        (r"The answer is: $0.5$.", r"\frac12", True),
        (r"so \boxed{x^2+2x+1}", "(x+1)^2", True),
        ("The answer is: (1,2]", "(1,2]", True),
        ("The answer is: 3", r"\frac{1}{3}", False),
        (r"The answer is: \text{Evelyn}", r"\text{Evelyn}", True),
        ("The answer is: ", "3", None),
        ("it is 3", "3", None),
    ],
)
def test_formulas_are_compared_by_their_value(text, reference, grade):
    assert grade_math(text, reference) is grade


def test_references_without_an_answer_are_refused():
    with pytest.raises(DataError, match="a number after ####, got 'none'"):
        gsm8k_reference("none")
    with pytest.raises(DataError, match=r"answer in \\boxed\{\}, got 'none'"):
        math_reference("none")


def test_every_reference_of_gsm8k_is_right_and_another_number_wrong(real_data):
    for row in real_rows(real_data / "arithmetic" / "gsm8k" / "test.jsonl.gz"):
        reference = gsm8k_reference(row["answer"])
        solution = re.sub("#### ", "The answer is: ", row["answer"])
        assert grade_number(solution, reference) is True
        assert grade_number(f"{solution}1", reference) is False


@pytest.mark.slow
def test_every_reference_of_math_is_right_and_another_formula_wrong(real_data):
    for row in real_rows(real_data / "arithmetic" / "MATH" / "test_sample400.jsonl.gz"):
        reference = math_reference(row["solution"])
        assert grade_math(row["solution"], reference) is True
        assert grade_math(f"The answer is: ${reference}$", reference) is True
        assert grade_math(f"The answer is: 1 + {reference}", reference) is False, reference
