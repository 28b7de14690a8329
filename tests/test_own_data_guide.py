"""The commands of the guide to one's own data run as they stand there, on files of a few rows."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import datasets
import pytest
from PIL import Image
from transformers import AutoTokenizer

from rankwise.cli.main import main
from tests.models.saved import make_bert, make_llama, make_t5, make_vit
from tests.tasks.own.own_files import reviews, write_csv, write_jsonl

GUIDE = Path(__file__).resolve().parents[1] / "docs" / "guides" / "own-data.md"
BLOCKS = re.findall(r"```sh\n(.*?)```", GUIDE.read_text(encoding="utf-8"), flags=re.DOTALL)
COMMANDS = [line for block in BLOCKS for line in block.splitlines()]
# So that a comparison is over soon; the guide's own words stay.
SHORT = {
    "train": ["--training.epochs", "1"],
    "compare": [
        *("--training.epochs", "1", "--compare.learning_rates", "0.001", "--compare.seeds", "0"),
        *("--compare.methods", "lora,lora-sb", "--compare.widenings", "0", "--workers", "1"),
    ],
}
TEMPLATE = "{% for m in messages %}[{{ m.role }}]|{{ m.content }}</s>{% endfor %}"
PROMPT = "{% if add_generation_prompt %}[assistant]|{% endif %}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What the guide takes for granted."""
    folder = tmp_path_factory.mktemp("own-data")
    texts = [text for text, _ in reviews()]
    make_bert(folder / "encoder", texts)
    make_vit(folder / "vision-model")
    make_llama(folder / "chat-model", texts)
    make_t5(folder / "text-to-text-model", texts, gated=True)
    tagged = [{"tokens": ["to", f"City{n}"], "ner_tags": ["O", "B-LOC"]} for n in range(20)]
    write_jsonl(folder / "names.jsonl", tagged)
    tokenizer = AutoTokenizer.from_pretrained(folder / "chat-model")
    tokenizer.chat_template = TEMPLATE + PROMPT
    tokenizer.save_pretrained(folder / "chat-model")
    write_csv(folder / "reviews.csv", ["review", "stars"], reviews())
    pairs = [{"question": f"is {text}?", "answer": label} for text, label in reviews()]
    write_jsonl(folder / "questions.jsonl", pairs)
    chats = [
        {
            "messages": [
                {"role": "user", "content": pair["question"]},
                {"role": "assistant", "content": pair["answer"]},
            ]
        }
        for pair in pairs
    ]
    write_jsonl(folder / "chats.jsonl", chats)
    preferred = [
        {"prompt": pair["question"], "chosen": pair["answer"], "rejected": f"no {number}"}
        for number, pair in enumerate(pairs)
    ]
    write_jsonl(folder / "pairs.jsonl", preferred)
    (folder / "notes.txt").write_text("\n\n".join(texts), encoding="utf-8")
    (folder / "scores.py").write_text(
        "def share_of_good(predictions, labels):\n    return sum(predictions) / len(labels)\n"
    )
    for number, name in enumerate(("cat", "dog")):
        (folder / "photos" / name).mkdir(parents=True)
        for shade in range(100 * number, 100 * number + 6):
            Image.new("RGB", (16, 16), (shade, 0, 0)).save(
                folder / "photos" / name / f"{shade}.png"
            )
    return folder


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_guide_runs(folder, monkeypatch, capsys, command):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", folder / "cache")
    program, name, *words = shlex.split(command)
    assert program == "rankwise"
    assert main([name, *words, *SHORT.get(name, [])]) == 0, capsys.readouterr().err


def test_the_guide_has_commands():
    assert len(COMMANDS) >= 8
