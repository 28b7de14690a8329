"""Files and a causal model that knows their words."""

from __future__ import annotations

import json
from pathlib import Path

from tests.models.saved import make_llama

WORDS = [
    "Below is an instruction that describes a task. Write a response that appropriately completes",
    "the request. ### Instruction: ### Response: Answer format: the correct answer is true false",
    "Please answer the following question with true or false, question: answer1 answer2",
]


def write_lines(root: Path, stem: str, rows: list[dict]) -> Path:
    """Write ``rows`` as one JSON object a line to ``stem``.jsonl below ``root``."""
    path = root / f"{stem}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def boolq_rows(count: int) -> list[dict]:
    """Return questions in the form of BoolQ: odd numbers are true."""
    rows = []
    for number in range(count):
        answer = "true" if number % 2 else "false"
        instruction = (
            "Please answer the following question with true or false, question: "
            f"is {number} odd?\n\nAnswer format: true/false"
        )
        output = f"the correct answer is {answer}"
        rows.append({"instruction": instruction, "input": "", "output": output, "answer": answer})
    return rows


def tiny_llama(folder: Path, **options) -> str:
    """Write a Llama that knows the words; return its name for ``task.model``."""
    return make_llama(folder, WORDS, **options)
