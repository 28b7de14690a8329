"""Answers to dialogues in the files that the judging tools read.

MT-Bench (FastChat's ``llm_judge``) takes a JSON line a question, with the turns of each choice;
AlpacaEval a JSON array of instruction, output and generator.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from rankwise.core.records import write_text
from rankwise.tasks.generation.questions import Question


def write_mt_bench(
    file: Path,
    questions: Sequence[Question],
    answers: Sequence[Sequence[str]],
    *,
    model: str,
    time: float,
) -> None:
    """Write ``model_answer/MODEL.jsonl`` of FastChat: ``answers`` has the turns of each question.

    ``time`` is in seconds since the epoch.
    """
    lines = []
    for question, turns in zip(questions, answers, strict=True):
        number = question.labels["question_id"]
        digest = hashlib.sha256(json.dumps([model, number, list(turns)]).encode()).hexdigest()
        content = {
            "question_id": number,
            "answer_id": digest[:22],
            "model_id": model,
            "choices": [{"index": 0, "turns": list(turns)}],
            "tstamp": time,
        }
        lines.append(json.dumps(content, ensure_ascii=False) + "\n")
    write_text(file, "".join(lines))


def write_alpaca_eval(
    file: Path, questions: Sequence[Question], answers: Sequence[str], *, model: str
) -> None:
    """Write ``model_outputs.json`` of AlpacaEval."""
    content = [
        {
            "dataset": question.labels["dataset"],
            "instruction": question.labels["instruction"],
            "output": answer,
            "generator": model,
        }
        for question, answer in zip(questions, answers, strict=True)
    ]
    write_text(file, json.dumps(content, ensure_ascii=False, indent=2) + "\n")
