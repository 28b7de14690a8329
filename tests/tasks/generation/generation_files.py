"""Files and a causal model of kilobytes for the tests of generation."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tests.models.saved import make_tokenizer

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


def tiny_llama(folder: Path, *, positions: int = 512, has_pad: bool = True) -> str:
    """Write a Llama of two blocks and its tokenizer, and return its name for ``task.model``."""
    tokenizer = make_tokenizer(WORDS, limit=positions)
    if not has_pad:
        tokenizer.pad_token = None
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=positions,
        pad_token_id=None,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)
