"""The data sets to train on: their columns, what is left out, and how they are cut."""

from __future__ import annotations

import json

import datasets
import pytest

from rankwise.core.errors import DataError, SettingsError
from rankwise.tasks.generation.corpora import read_corpus, split_rows
from rankwise.tasks.generation.definitions import CORPORA
from rankwise.tasks.generation.examples import Example
from rankwise.tasks.generation.instructions import Instruction, read_instruction
from tests.tasks.generation.generation_files import write_lines


@pytest.mark.parametrize(
    ("columns", "row"),
    [
        ({"query": "q", "response": "r", "type": "x"}, Instruction("q", "r")),
        ({"instruction": "q", "output": "r"}, Instruction("q", "r")),
        ({"instruction": "q", "input": " i ", "output": "r"}, Instruction("q", "r", "i")),
        (
            {"question": "q", "answer": "2*2=<<2*2=4>>4\n#### 4"},
            Instruction("q", "2*2=4\nThe answer is: 4"),
        ),
    ],
)
def test_the_columns_of_the_public_data_sets_are_known(columns, row):
    assert read_instruction(Example(columns, "here")) == row


def test_other_columns_are_refused():
    with pytest.raises(DataError, match=r"here: expected the columns query .* got a, b"):
        read_instruction(Example({"a": "x", "b": "y"}, "here"))


def test_files_may_stand_in_and_empty_responses_are_counted(tmp_path):
    rows = [{"instruction": "q", "output": output} for output in ("a", "", "b")]
    write_lines(tmp_path, "dialogue/mine/train", rows)
    write_lines(tmp_path, "dialogue/alpaca/train", rows[:1])
    own = read_corpus(CORPORA["alpaca"], tmp_path)
    assert (len(own.rows), own.source) == (1, "dialogue/alpaca/train")
    mine = read_corpus(CORPORA["alpaca"], tmp_path, ["dialogue/mine/train"])
    assert [row.response for row in mine.rows] == ["a", "b"]
    assert mine.source == "dialogue/mine/train (1 rows without a response left out)"


@pytest.mark.parametrize("name", ["commonsense_170k.json", "ft-training_set/commonsense_170k.json"])
def test_the_layout_of_llm_adapters_is_known(tmp_path, name):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    row = {
        "instruction": "q",
        "input": "",
        "output": "the correct answer is true",
        "answer": "true",
    }
    path.write_text(json.dumps([row]))
    found = read_corpus(CORPORA["commonsense"], tmp_path)
    assert found.rows == [Instruction("q", "the correct answer is true")]
    assert found.source == name.removesuffix(".json")


def test_files_need_a_folder():
    with pytest.raises(SettingsError, match=r"task\.files needs a folder"):
        read_corpus(CORPORA["alpaca"], None, ["x"])


def test_what_is_held_out_is_not_trained_on():
    for takes_first in (False, True):
        train, validation, test = split_rows(
            50, rows=20, held_out=5, seed=0, takes_first=takes_first
        )
        assert len({*train, *validation, *test}) == 20 + 5 + 5
        assert (train == list(range(20))) is takes_first


def test_without_a_limit_every_row_is_used_once():
    parts = split_rows(50, rows=None, held_out=5, seed=0, takes_first=True)
    assert sorted(row for part in parts for row in part) == list(range(50))


def test_the_seed_decides_what_is_held_out():
    def held_out(seed):
        return split_rows(50, rows=None, held_out=5, seed=seed, takes_first=False).validation

    assert held_out(0) == held_out(0) != held_out(1)


def test_too_few_rows_are_refused():
    with pytest.raises(SettingsError, match="20 rows are too few for 15 to train on and twice 3"):
        split_rows(20, rows=15, held_out=3, seed=0, takes_first=False)


def test_the_hub_is_read_without_a_folder(monkeypatch):
    rows = [{"query": "q", "response": "r"}, {"query": "q", "response": ""}]
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: rows)
    found = read_corpus(CORPORA["metamathqa"], None)
    assert found.rows == [Instruction("q", "r")]
    assert found.source == "Hub meta-math/MetaMathQA (1 rows without a response left out)"


def test_a_hub_that_is_away_is_named_with_the_way_out(monkeypatch):
    def away(*_, **__):
        raise OSError("offline")

    monkeypatch.setattr(datasets, "load_dataset", away)
    with pytest.raises(
        DataError, match=r"MetaMathQA cannot be fetched \(OSError: offline\): go on"
    ):
        read_corpus(CORPORA["metamathqa"], None)


def test_a_row_of_the_hub_with_other_columns_is_named(monkeypatch):
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: [{"a": "x"}])
    with pytest.raises(DataError, match="Hub tatsu-lab/alpaca, row 0: expected the columns"):
        read_corpus(CORPORA["alpaca"], None)
