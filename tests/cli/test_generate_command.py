"""What a model writes from the command line: a prompt, a file of prompts, a conversation."""

from __future__ import annotations

import contextlib
import io
import json
import shutil

import datasets
import pytest
from transformers import AutoTokenizer

from rankwise.cli.main import main
from rankwise.core.outside_text import printable
from rankwise.evaluation.generation import Decoding
from rankwise.methods.temporary_merge import temporarily_merged
from rankwise.training import writing
from rankwise.training.writing import open_writer
from tests.models.saved import make_bert, make_llama, make_t5
from tests.tasks.own.own_files import reviews, write_csv, write_jsonl

pytestmark = pytest.mark.runs

TEMPLATE = (
    "{% for m in messages %}[{{ m.role }}]|{{ m.content }}</s>{% endfor %}"
    "{% if add_generation_prompt %}[assistant]|{% endif %}"
)
PAIRS = [{"question": f"is {text}?", "answer": label} for text, label in reviews()]
CHATS = [
    {
        "messages": [
            {"role": "user", "content": row["question"]},
            {"role": "assistant", "content": row["answer"]},
        ]
    }
    for row in PAIRS
]


def trained(data, model, folder, *words):
    quick = ["--training.epochs", "1", "--method.r", "2", "--output", str(folder / data.stem)]
    assert main(["train", str(data), "--task.model", model, *quick, *words]) == 0
    (record,) = (folder / data.stem).glob("runs/*/record.json")
    return record.parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module", autouse=True)
def own_cache(folder):
    before = datasets.config.HF_DATASETS_CACHE
    datasets.config.HF_DATASETS_CACHE = folder / "cache"
    yield
    datasets.config.HF_DATASETS_CACHE = before


@pytest.fixture(scope="module")
def llama(folder):
    name = make_llama(folder / "llama", [text for text, _ in reviews()])
    tokenizer = AutoTokenizer.from_pretrained(name)
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(name)
    return name


@pytest.fixture(scope="module")
def run(folder, llama):
    write_jsonl(folder / "pairs.jsonl", PAIRS)
    return trained(folder / "pairs.jsonl", llama, folder)


@pytest.fixture(scope="module")
def chat_run(folder, llama):
    write_jsonl(folder / "chats.jsonl", CHATS)
    return trained(folder / "chats.jsonl", llama, folder)


SHORT = ["--max-new-tokens", "4"]


def test_a_prompt_is_completed_as_it_stands(run, capsys):
    assert main(["generate", str(run), "is film number 3 fine?", *SHORT]) == 0
    printed = capsys.readouterr().out
    writer = open_writer(run)
    assert writer.form == "plain"
    assert writer.write([["is film number 3 fine?"]], Decoding(4)) == [printed.rstrip("\n")]


def test_a_file_of_prompts_leaves_a_line_each(folder, run, tmp_path, capsys):
    out = tmp_path / "out.jsonl"
    words = ["generate", str(run), "--file", str(folder / "pairs.jsonl"), "--output", str(out)]
    assert main([*words, *SHORT, "--batch-size", "7"]) == 0
    lines = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert [line["prompt"] for line in lines] == [row["question"] for row in PAIRS]
    # The size of a batch changes nothing.
    alone = open_writer(run).write([[lines[5]["prompt"]]], Decoding(4))
    assert [lines[5]["completion"]] == alone
    assert main(words) == 2
    assert "is there already" in capsys.readouterr().err


def test_an_adapter_is_merged_once_for_all_prompts(run, monkeypatch):
    merged = []

    @contextlib.contextmanager
    def counted(model):
        with temporarily_merged(model) as is_merged:
            merged.append(is_merged)
            yield

    monkeypatch.setattr(writing, "temporarily_merged", counted)
    open_writer(run).write([["is it?"]] * 5, Decoding(2), batch_size=2)
    assert merged == [True]


def test_an_adapter_alone_is_asked_by_its_tokenizers_template(run, tmp_path):
    shutil.copytree(run / "adapter", tmp_path / "adapter")
    assert open_writer(tmp_path / "adapter").form == "chat"


def test_a_conversation_remembers_its_turns(chat_run, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO("is it?\nand now?\n\nis it?\n"))
    assert main(["chat", str(chat_run), *SHORT]) == 0
    first, second, again = capsys.readouterr().out.split("\n")[:3]
    writer = open_writer(chat_run)
    assert writer.form == "chat"
    (answer,) = writer.write([["is it?"]], Decoding(4))
    (next_answer,) = writer.write([["is it?", answer, "and now?"]], Decoding(4))
    assert [first, second] == [printable(answer), printable(next_answer)]
    assert again == first


def test_a_model_of_texts_for_texts_writes_too(folder, capsys):
    name = make_t5(folder / "t5", [text for text, _ in reviews()], gated=True)
    write_jsonl(folder / "rewritten.jsonl", PAIRS)
    run = trained(folder / "rewritten.jsonl", name, folder, "--task.name", "text-to-text")
    writer = open_writer(run)
    assert writer.form == "text-to-text"
    assert len(writer.write([["is it?"], ["is film 3 fine at all?"]], Decoding(4))) == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "name one prompt, or a file of them by --file"),
        (["a", "--file", "b.csv"], "name one prompt, or a file of them by --file"),
        (["a", "--column", "b"], "--column is that of a --file"),
        (["a", "--temperature", "0"], "--temperature must be above 0, got 0.0"),
        (["a", "--max-new-tokens", "600"], "leaves no room for 600 more in the 512 that the model"),
        (["--file", "nowhere.csv"], "no file or folder nowhere.csv"),
    ],
)
def test_what_cannot_be_asked_is_refused(run, capsys, words, message):
    assert main(["generate", str(run), *words]) == 2
    assert message in capsys.readouterr().err


def test_a_model_that_writes_nothing_is_refused(folder, capsys):
    write_csv(folder / "reviews.csv", ["review", "stars"], reviews())
    name = make_bert(folder / "bert", [text for text, _ in reviews()])
    run = trained(folder / "reviews.csv", name, folder)
    assert main(["generate", str(run), "x"]) == 2
    assert "a model for text-classification writes nothing" in capsys.readouterr().err
