"""Evaluation sets: the questions in the words of the papers, with what is right."""

from __future__ import annotations

import pytest

from rankwise.core.errors import DataError, SettingsError
from rankwise.tasks.generation.questions import (
    BENCHMARKS,
    find_benchmark,
    read_questions,
    sample_questions,
)
from tests.tasks.generation.generation_files import boolq_rows, write_lines


def questions(tmp_path, name, rows):
    write_lines(tmp_path, BENCHMARKS[name].files[0], rows)
    return read_questions(BENCHMARKS[name], tmp_path)


def test_options_are_read_from_the_instruction(tmp_path):
    _, second = questions(tmp_path, "boolq", boolq_rows(2))
    assert second.reference == "true"
    assert second.options == ("true", "false")


def test_hellaswag_is_put_into_the_form_of_the_others(tmp_path):
    row = {"ctx": "He", "endings": ["runs.", "sits."], "label": 1}
    (question,) = questions(tmp_path, "hellaswag", [row])
    assert question.turns == (
        "Please choose the correct ending to complete the given sentence: He\n\n"
        "Ending1: runs. Ending2: sits.\n\nAnswer format: ending1/ending2",
    )
    assert question.reference == "ending2"


def test_dialogues_keep_what_their_answers_repeat(tmp_path):
    row = {"question_id": 81, "category": "writing", "turns": ["a", "b"]}
    (question,) = questions(tmp_path, "mt-bench", [row])
    assert question.turns == ("a", "b")
    assert question.labels == {"question_id": 81, "category": "writing"}
    (question,) = questions(tmp_path, "alpaca-eval", [{"dataset": "koala", "instruction": "a"}])
    assert question.labels == {"dataset": "koala", "instruction": "a"}


def test_a_part_stands_in_where_the_whole_set_is_missing(tmp_path):
    row = {"problem": "1+1", "solution": r"\boxed{2}"}
    write_lines(tmp_path, "arithmetic/MATH/test_sample400", [row])
    assert len(read_questions(BENCHMARKS["math"], tmp_path)) == 1


@pytest.mark.parametrize(
    ("name", "row", "message"),
    [
        ("boolq", {"instruction": "x", "answer": "true"}, "line 1: expected 'Answer format:'"),
        (
            "hellaswag",
            {"ctx": "x", "endings": ["a"], "label": 1},
            "label must be from 0 to 0, got 1",
        ),
        ("gsm8k", {"question": "x"}, "line 1: expected text in 'answer'"),
    ],
)
def test_a_row_that_is_not_as_expected_is_named(tmp_path, name, row, message):
    with pytest.raises(DataError, match=message):
        questions(tmp_path, name, [row])


def test_a_seed_draws_sample_questions(tmp_path):
    every = questions(tmp_path, "boolq", boolq_rows(30))
    some = sample_questions(every, 5, seed=0)
    assert some == sample_questions(every, 5, seed=0) != sample_questions(every, 5, seed=1)
    assert [every.index(question) for question in some] == sorted(map(every.index, some))
    assert sample_questions(every, None, seed=0) == sample_questions(every, 99, seed=0) == every


def test_an_unknown_set_is_refused():
    with pytest.raises(SettingsError, match="no evaluation set 'gsm8'; did you mean 'gsm8k'"):
        find_benchmark("gsm8")
