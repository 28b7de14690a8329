"""The first option named is the answer."""

from __future__ import annotations

import pytest

from rankwise.evaluation.commonsense import first_option, grade_choice, options

ANSWERS = options("answer", 5)


@pytest.mark.parametrize(
    ("text", "choices", "option"),
    [
        ("the correct answer is answer4", ANSWERS, "answer4"),
        ("answer2 or answer1", ANSWERS, "answer2"),
        ("false. Instruction: true", ("true", "false"), "false"),
        ("the correct answer is", ANSWERS, None),
        ("answer6", ANSWERS, None),
        ("answer10", ANSWERS, None),
        ("Answer1.", ANSWERS, "answer1"),
        ("TRUE", ("true", "false"), "true"),
        ("untrue", ("true", "false"), None),
        ("", ANSWERS, None),
    ],
)
def test_the_first_option_counts(text, choices, option):
    assert first_option(text, choices) == option


def test_a_text_without_an_option_is_neither_right_nor_wrong():
    assert grade_choice("it is answer1", "answer1", ANSWERS) is True
    assert grade_choice("it is answer2", "answer1", ANSWERS) is False
    assert grade_choice("who knows", "answer1", ANSWERS) is None
