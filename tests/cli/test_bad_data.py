"""What is wrong with data is one sentence, said before a model is loaded, and leaves no folder."""

from __future__ import annotations

import datasets
import pytest
import transformers

import rankwise.tasks.own.task as own_task
from rankwise.cli.main import main
from tests.models.saved import make_bert, make_llama
from tests.tasks.own.own_files import reviews, write_csv, write_jsonl

TEXTS = [text for text, _ in reviews()]


def csv(*rows, header=("text", "label")):
    return "a.csv", lambda file: write_csv(file, list(header), [list(row) for row in rows])


def jsonl(*rows):
    return "a.jsonl", lambda file: write_jsonl(file, list(rows))


def raw(name, content):
    return name, lambda file: file.write_bytes(content)


def folder(**splits):
    """A folder with a CSV file a split."""

    def write(place):
        place.mkdir()
        for split, rows in splits.items():
            write_csv(place / f"{split}.csv", ["text", "label"], rows)

    return "data", write


def chat(asked, said, role="assistant"):
    return {"messages": [{"role": "user", "content": asked}, {"role": role, "content": said}]}


CHATS = [chat(f"number {n}", "yes") for n in range(9)]
PAIRS = [{"prompt": f"is {n}?", "completion": "yes"} for n in range(9)]
LONG = {"prompt": "word " * 600, "completion": "no room"}
WORDS = [{"tokens": ["to", f"City{n}"], "ner_tags": ["O", "B-LOC"]} for n in range(9)]
CHOICES = [{"prompt": f"{n}?", "chosen": "yes", "rejected": "yes"} for n in range(9)]
SPLITS = {"train": reviews()[:8], "dev": reviews()[8:12]}

CASES = {
    # columns
    "no such label": (
        csv(*reviews()),
        ["--task.label", "lable"],
        "no column 'lable'; did you mean 'label'?",
    ),
    "no such text": (
        csv(*reviews()),
        ["--task.text", "txt"],
        "no column 'txt'; did you mean 'text'?",
    ),
    "no such prompt": (
        jsonl(*PAIRS),
        ["--task.name", "sft", "--task.prompt", "promt", "--task.completion", "completion"],
        "no column 'promt'; did you mean 'prompt'?",
    ),
    "which task": (
        csv((1, 2), (3, 4), header=("a", "b")),
        [],
        "which task is it for? set --task.name",
    ),
    "which label": (
        csv(*reviews(), header=("a", "b")),
        ["--task.name", "text-classification"],
        "which column is the label? set --task.label",
    ),
    # labels
    "an empty label": (
        csv(*reviews(), ("one more", "")),
        [],
        "1 of 21 rows have no label (row 21): fill them or drop the rows",
    ),
    "constant labels": (
        csv(*((text, "good") for text in TEXTS)),
        [],
        "all rows have the same label, 'good': there is nothing to learn",
    ),
    "constant numbers": (
        csv(*((text, 0.5) for text in TEXTS)),
        [],
        "all rows have the same label, 0.5",
    ),
    "a class of one row": (
        csv(*reviews(), ("a rare one", "odd")),
        [],
        "has 1 row of class 'odd', and training, validation and test need one each",
    ),
    "a class that training lacks": (
        folder(**SPLITS, test=[["new", "fine"]]),
        [],
        "test has the class 'fine', which training lacks",
    ),
    "no number in a regression": (
        csv(*reviews()),
        ["--task.target", "regression"],
        "a regression needs numbers, got 'bad'",
    ),
    # rows
    "one row": (csv(reviews()[0], reviews()[0]), [], "same label"),
    "one row of text": (
        raw("a.txt", b"only this"),
        [],
        "has 1 row, and training, validation and test need one each",
    ),
    "one conversation": (
        jsonl(chat("well?", "yes")),
        [],
        "has 1 row, and training, validation and test need one each",
    ),
    "one prompt": (
        jsonl(PAIRS[0]),
        [],
        "has 1 row, and training, validation and test need one each",
    ),
    "no row": (csv(), [], "a.csv has no rows"),
    "an empty file": (raw("a.csv", b""), [], "a.csv has no rows"),
    "an empty file of lines": (raw("a.jsonl", b"\n"), [], "a.jsonl has no rows"),
    "an empty text": (csv(*reviews(), (" ", "good")), [], "1 of 21 rows are empty (row 21)"),
    "splits that overlap": (
        folder(train=reviews(), dev=reviews()[:9], test=reviews()[9:]),
        [],
        "9 of the 9 rows of validation stand in training too",
    ),
    "too few rows asked for": (
        csv(*reviews()),
        ["--task.rows", "99"],
        "task.rows must be at most 16",
    ),
    # files
    "broken UTF-8": (
        raw("a.csv", b"text,label\ngood,1\nb\xffd,0\n"),
        [],
        "a.csv, line 3 is not UTF-8 (byte 0xff at position 2): save the file as UTF-8",
    ),
    "a line that is no JSON": (
        raw("a.jsonl", b'{"text": "one", "label": 1}\n{"text":\n'),
        [],
        "a.jsonl, line 2 is no JSON",
    ),
    "a line that is no object": (
        raw("a.jsonl", b'{"text": "one"}\n[1]\n'),
        [],
        "a.jsonl, line 2 must be a JSON object, got '[1]'",
    ),
    "too many cells": (
        raw("a.csv", b"text,label\na,1\na,1,2,3\n"),
        [],
        "Expected 2 fields in line 3",
    ),
    "no Parquet": (raw("a.parquet", b"PAR1 it is none"), [], "a.parquet cannot be read"),
    "a folder without data": (
        ("data", lambda place: place.mkdir()),
        [],
        "data holds no data: put train.csv",
    ),
    # conversations, words, preferences
    "no template": (
        jsonl(*CHATS),
        [],
        "has no chat template, which conversations need: take an instruction-tuned --task.model",
    ),
    "no conversation": (
        jsonl(*CHATS, {"messages": "hi"}),
        [],
        "row 10, 'messages' must be a list of messages with role and content, got 'hi'",
    ),
    "nothing said": (
        jsonl(*CHATS, chat("well?", "x", role="user")),
        [],
        "row 10, 'messages' has no message of the assistant: there is nothing to learn",
    ),
    "no room for a completion": (
        jsonl(*({**LONG, "prompt": LONG["prompt"] + str(n)} for n in range(9))),
        [],
        "no row has room for its completion within 512 tokens: raise --task.max_length",
    ),
    "more than the model reads": (
        jsonl(*PAIRS),
        ["--task.max_length", "9999"],
        "task.max_length must be at most 512, what the model reads, got 9999",
    ),
    "words without tags": (
        jsonl(*WORDS, {"tokens": ["a", "b"], "ner_tags": ["O"]}),
        [],
        "row 10 has 2 words and 1 tags: each word needs one",
    ),
    "nothing to prefer": (
        jsonl(*CHOICES),
        [],
        "are the same in every row: there is nothing to prefer",
    ),
    # metrics
    "a metric of other answers": (
        csv(*reviews()),
        ["--task.metrics", "perplexity"],
        "perplexity falls as models get better",
    ),
    "a metric of regressions": (
        csv(*reviews()),
        ["--task.metrics", "pearson"],
        "task.metrics: 'pearson' does not fit classes",
    ),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    place = tmp_path_factory.mktemp("models")
    make_bert(place / "encoder", TEXTS)
    make_llama(place / "causal", TEXTS)
    return place


@pytest.fixture(autouse=True)
def no_model(monkeypatch, tmp_path):
    """Let whoever loads weights fail."""

    def loaded(*_, **__):
        pytest.fail("a model was loaded")

    monkeypatch.setattr(own_task, "load_model", loaded)
    monkeypatch.setattr(transformers.PreTrainedModel, "from_pretrained", loaded)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.chdir(tmp_path)


# The other command looks at data by the same function: some suffice.
ALL = [("train", case) for case in CASES]
ALL += [("compare", case) for case in ("no such label", "an empty label", "no template")]


@pytest.mark.parametrize(("command", "case"), ALL)
def test_it_is_told(models, tmp_path, capsys, command, case):
    (name, write), words, sentence = CASES[case]
    write(tmp_path / name)
    is_causal = name.endswith((".jsonl", ".txt")) and "tokens" not in (tmp_path / name).read_text()
    model = models / ("causal" if is_causal else "encoder")
    assert main([command, name, "--task.model", str(model), *words]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert sentence in said
    assert not (tmp_path / "runs").exists()


def test_what_is_cut_is_counted_and_said(models, tmp_path, capsys):
    long = [[f"{n} " + "film " * 200, "good" if n % 2 else "bad"] for n in range(20)]
    write_csv(tmp_path / "a.csv", ["text", "label"], long)
    with pytest.raises(pytest.fail.Exception, match="a model was loaded"):
        main(["train", "a.csv", "--task.model", str(models / "encoder")])
    assert "train: 16 rows; 16 are cut to the greatest length" in capsys.readouterr().out
