"""What data are for is seen by their columns; what is said goes before."""

from __future__ import annotations

import pytest

from rankwise.core.errors import DataError
from rankwise.tasks.own.guess import guess_task
from rankwise.tasks.own.source import Source
from tests.tasks.own.own_files import write_jsonl


def guess(tmp_path, row, **given):
    return guess_task(Source(write_jsonl(tmp_path / "a.jsonl", [row])), given)


@pytest.mark.parametrize(
    ("row", "task"),
    [
        (
            {"review": "x", "stars": 1, "id": 7},
            {"name": "text-classification", "text": ["review"], "label": "stars"},
        ),
        (
            {"premise": "x", "hypothesis": "y", "label": "z"},
            {"name": "text-classification", "text": ["premise", "hypothesis"], "label": "label"},
        ),
        (
            {"messages": [{"role": "user", "content": "x"}], "text": "y"},
            {"name": "sft", "messages": "messages"},
        ),
        (
            {"instruction": "x", "output": "y"},
            {"name": "sft", "prompt": "instruction", "completion": "output"},
        ),
        ({"whatever": "x"}, {"name": "causal-lm", "text": "whatever"}),
    ],
)
def test_a_task_is_seen_by_the_columns(tmp_path, row, task):
    assert guess(tmp_path, row) == task


def test_what_is_said_goes_before(tmp_path):
    row = {"question": "x", "answer": "y", "topic": "z"}
    assert guess(tmp_path, row, label="topic", text="question") == {
        "name": "text-classification",
        "text": ["question"],
        "label": "topic",
    }
    assert guess(tmp_path, row, name="sft")["completion"] == "answer"
    assert guess(tmp_path, row, name="causal-lm", text="answer")["text"] == "answer"


def test_a_doubt_is_refused_with_what_ends_it(tmp_path):
    with pytest.raises(DataError, match=r"which task is it for\? set --task\.name to one of"):
        guess(tmp_path, {"a": "x", "b": "y"})


def test_a_text_beside_a_column_of_no_known_name_is_a_doubt(tmp_path):
    row = {"verdict": "good", "what they wrote": "x"}
    with pytest.raises(DataError, match=r"which task is it for\?.* there are verdict, what they"):
        guess(tmp_path, row, text="what they wrote")
    assert guess(tmp_path, row, text="what they wrote", label="verdict") == {
        "name": "text-classification",
        "text": ["what they wrote"],
        "label": "verdict",
    }
