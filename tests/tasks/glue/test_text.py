"""The text-to-text form: what is written is read again, and nothing else is an answer."""

from __future__ import annotations

import pytest

from rankwise.tasks.glue.definitions import DEFINITIONS
from rankwise.tasks.glue.examples import Example
from rankwise.tasks.glue.text import GlueText

CLASSES = [(name, row) for name, each in DEFINITIONS.items() for row in range(len(each.words))]


def task(name):
    return GlueText(name, model="t5-base")


def test_two_texts_stand_on_two_lines():
    (written,) = task("mnli").texts(Example(("It rains.", "It is wet."), 0))
    assert written == "classify the text relationship: It rains.\nIt is wet.\nresult: "


@pytest.mark.parametrize(("name", "label"), CLASSES)
def test_the_word_of_a_class_is_read_as_that_class(name, label):
    assert task(name).read(task(name).label_text(label)) == label


@pytest.mark.parametrize(("score", "text"), [(0, "0.0"), (3.75, "3.8"), (2.857, "2.8"), (5, "5.0")])
def test_a_score_is_rounded_to_a_fifth(score, text):
    assert task("stsb").label_text(score) == text
    assert task("stsb").read(text) == float(text)


@pytest.mark.parametrize("text", ["", "Equivalent", "equivalent different", "1", "equival"])
def test_what_is_no_label_word_is_no_answer(text):
    assert task("mrpc").read(text) is None


@pytest.mark.parametrize("text", ["", "five", "5.2", "-1", "nan", "3.0 4.0"])
def test_what_is_no_score_is_no_answer(text):
    assert task("stsb").read(text) is None


def test_blanks_around_an_answer_do_not_count():
    assert task("mrpc").read(" equivalent\n") == 1
