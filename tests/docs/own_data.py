"""The files and the models that the pages on data of one's own take for granted, of a few rows."""

from __future__ import annotations

from pathlib import Path

from PIL import Image
from transformers import AutoTokenizer

from tests.models.saved import make_bert, make_llama, make_t5, make_vit
from tests.tasks.own.own_files import reviews, write_csv, write_jsonl

TEMPLATE = "{% for m in messages %}[{{ m.role }}]|{{ m.content }}</s>{% endfor %}"
PROMPT = "{% if add_generation_prompt %}[assistant]|{% endif %}"


def fill(folder: Path) -> Path:
    """Write them into ``folder``, and return it."""
    texts = [text for text, _ in reviews()]
    _write_models(folder, texts)
    tagged = [{"tokens": ["to", f"City{n}"], "ner_tags": ["O", "B-LOC"]} for n in range(20)]
    write_jsonl(folder / "names.jsonl", tagged)
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
    _write_images(folder / "photos")
    return folder


def _write_models(folder: Path, texts: list[str]) -> None:
    make_bert(folder / "encoder", texts)
    make_vit(folder / "vision-model")
    make_llama(folder / "chat-model", texts)
    make_t5(folder / "text-to-text-model", texts, gated=True)
    tokenizer = AutoTokenizer.from_pretrained(folder / "chat-model")
    tokenizer.chat_template = TEMPLATE + PROMPT
    tokenizer.save_pretrained(folder / "chat-model")


def _write_images(folder: Path) -> None:
    for number, name in enumerate(("cat", "dog")):
        (folder / name).mkdir(parents=True)
        for shade in range(100 * number, 100 * number + 6):
            Image.new("RGB", (16, 16), (shade, 0, 0)).save(folder / name / f"{shade}.png")
