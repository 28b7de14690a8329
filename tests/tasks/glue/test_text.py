"""The text-to-text form: what is written is read again, and nothing else is an answer."""

from __future__ import annotations

import pytest

from rankwise.tasks.glue.definitions import DEFINITIONS, find_definition
from rankwise.tasks.glue.examples import Example
from rankwise.tasks.glue.text import read_answer, write_answer, write_input

CLASSES = [(name, row) for name, each in DEFINITIONS.items() for row in range(len(each.words))]


def test_two_texts_stand_on_two_lines():
    written = write_input(find_definition("mnli"), Example(("It rains.", "It is wet."), 0))
    assert written == "classify the text relationship: It rains.\nIt is wet.\nresult: "


@pytest.mark.parametrize(("name", "label"), CLASSES)
def test_the_word_of_a_class_is_read_as_that_class(name, label):
    definition = find_definition(name)
    assert read_answer(definition, write_answer(definition, label)) == label


@pytest.mark.parametrize(("score", "text"), [(0, "0.0"), (3.75, "3.8"), (2.857, "2.8"), (5, "5.0")])
def test_a_score_is_rounded_to_a_fifth(score, text):
    assert write_answer(find_definition("stsb"), score) == text
    assert read_answer(find_definition("stsb"), text) == float(text)


@pytest.mark.parametrize("text", ["", "Equivalent", "equivalent different", "1", "equival"])
def test_what_is_no_label_word_is_no_answer(text):
    assert read_answer(find_definition("mrpc"), text) is None


@pytest.mark.parametrize("text", ["", "five", "5.2", "-1", "nan", "3.0 4.0"])
def test_what_is_no_score_is_no_answer(text):
    assert read_answer(find_definition("stsb"), text) is None


def test_blanks_around_an_answer_do_not_count():
    assert read_answer(find_definition("mrpc"), " equivalent\n") == 1
