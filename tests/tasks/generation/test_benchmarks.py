"""Benchmarks: the questions in the words of the papers, from files of any layout or the Hub."""

from __future__ import annotations

import json

import datasets
import pytest

from rankwise.core.errors import DataError, SettingsError
from rankwise.tasks.generation.benchmarks import (
    BENCHMARKS,
    find_benchmark,
    read_questions,
    sample_questions,
)
from tests.tasks.generation.generation_files import boolq_rows, write_lines


def questions(tmp_path, name, rows):
    write_lines(tmp_path, BENCHMARKS[name].files[0], rows)
    return read_questions(name, tmp_path)


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


@pytest.mark.parametrize("stem", ["boolq/test", "dataset/boolq/test", "commonsense/boolq/test"])
def test_each_layout_is_known(tmp_path, stem):
    """Ours, and that of LLM-Adapters, whose files are arrays."""
    path = tmp_path / f"{stem}.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(boolq_rows(3)))
    assert len(read_questions("boolq", tmp_path)) == 3


@pytest.mark.parametrize(
    ("name", "stem", "row", "reference"),
    [
        ("math", "arithmetic/MATH/test_sample400", {"problem": "1+1", "solution": "2"}, "2"),
        ("math", "math_eval/MATH_test", {"instruction": "1+1", "output": "2"}, "2"),
        ("gsm8k", "math_eval/gsm8k_test", {"question": "1+1", "answer": "#### 2"}, "#### 2"),
        ("gsm8k", "dataset/gsm8k/test", {"instruction": "1+1", "answer": "2.0"}, "#### 2.0"),
        ("gsm8k", "gsm8k/test", {"instruction": "1+1", "answer": 2}, "#### 2"),
        ("addsub", "AddSub/test", {"instruction": "1+1", "answer": 2.0}, "2.0"),
    ],
)
def test_the_files_of_other_projects_are_known(tmp_path, name, stem, row, reference):
    write_lines(tmp_path, stem, [row])
    (question,) = read_questions(name, tmp_path)
    assert question.turns == ("1+1",)
    assert question.reference == reference


@pytest.fixture
def hub(monkeypatch):
    """Serve rows in the place of the Hub's, and note what was asked for."""
    asked = []

    def serve(*rows):
        def load_dataset(path, name=None, *, split, data_files=None):
            asked.append((path, name, split, data_files))
            return list(rows)

        monkeypatch.setattr(datasets, "load_dataset", load_dataset)
        return asked

    return serve


def test_without_a_root_the_hub_is_read(hub):
    asked = hub({"question": "1+1?", "answer": "#### 2"})
    (question,) = read_questions("gsm8k", None)
    assert question.reference == "#### 2"
    assert asked == [("openai/gsm8k", "main", "test", None)]


def test_the_subjects_of_math_follow_one_another(hub):
    asked = hub({"problem": "1+1", "solution": r"\boxed{2}"})
    assert len(read_questions("math", None)) == len(asked) == 7
    assert asked[0] == ("EleutherAI/hendrycks_math", "algebra", "test", None)


def test_a_data_set_of_the_authors_columns_is_put_into_words(hub):
    hub({"question": "is it", "answer": False, "passage": "p"})
    (question,) = read_questions("boolq", None)
    assert question.turns[0].endswith("question: is it?\n\nAnswer format: true/false")


@pytest.mark.parametrize("name", ["mt-bench", "alpaca-eval"])
def test_a_file_of_the_hub_is_read_by_its_address(hub, name):
    asked = hub({"turns": ["a"], "instruction": "a"})
    read_questions(name, None)
    assert asked == [("json", None, "train", BENCHMARKS[name].hub.dataset)]


def test_a_hub_that_is_away_is_named_with_the_way_out(monkeypatch):
    def away(*_, **__):
        raise RuntimeError("Dataset scripts are no longer supported")

    monkeypatch.setattr(datasets, "load_dataset", away)
    with pytest.raises(DataError, match=r"Hub openai/gsm8k/main cannot be fetched .*data_root"):
        read_questions("gsm8k", None)


def test_a_row_of_the_hub_that_is_not_as_expected_is_named(hub):
    hub({"question": "1+1?"})
    with pytest.raises(DataError, match="Hub openai/gsm8k/main, row 0: expected text in 'answer'"):
        read_questions("gsm8k", None)


def test_a_set_that_is_not_on_the_hub_needs_a_root():
    with pytest.raises(SettingsError, match=r"aqua is not on the Hub: .* LLM-Adapters' AQuA/test"):
        read_questions("aqua", None)


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
        ("gsm8k", {"instruction": "x", "answer": True}, "line 1: expected text in 'answer'"),
    ],
)
def test_a_row_that_is_not_as_expected_is_named(tmp_path, name, row, message):
    with pytest.raises(DataError, match=message):
        questions(tmp_path, name, [row])


def test_a_seed_draws_some_questions(tmp_path):
    every = questions(tmp_path, "boolq", boolq_rows(30))
    some = sample_questions(every, 5, seed=0)
    assert some == sample_questions(every, 5, seed=0) != sample_questions(every, 5, seed=1)
    assert [every.index(question) for question in some] == sorted(map(every.index, some))
    assert sample_questions(every, None, seed=0) == sample_questions(every, 99, seed=0) == every


def test_an_unknown_set_is_refused():
    with pytest.raises(SettingsError, match="no benchmark 'gsm8'; did you mean 'gsm8k'"):
        find_benchmark("gsm8")
