"""The questions of the benchmarks, with their references.

| kind | columns | reference |
|---|---|---|
| gsm8k | question, answer; or LLM-Adapters' instruction, answer | the number after ``####`` |
| math | problem, solution; or LoRA-SB's instruction, output | the formula in ``\\boxed{}`` |
| number, letter | instruction, answer | the label |
| choice | instruction, answer; or the authors' columns (``commonsense.py``) | the option |
| mt-bench | question_id, category, turns | judged |
| alpaca-eval | dataset, instruction | judged |
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from rankwise.core.errors import DataError
from rankwise.tasks.generation.commonsense import FORMAT, Instructed, instructed
from rankwise.tasks.generation.examples import Example

Kind = Literal["gsm8k", "math", "number", "letter", "choice", "mt-bench", "alpaca-eval"]


@dataclass(frozen=True)
class Question:
    """One question.

    Attributes:
        turns: The user's messages; more than one in a dialogue.
        reference: What is right, as the file writes it; empty where a judge decides.
        options: What may be answered; empty where that is open.
        labels: What an answer's file has to repeat.
    """

    turns: tuple[str, ...]
    reference: str = ""
    options: tuple[str, ...] = ()
    labels: dict[str, Any] = field(default_factory=dict)


def read_question(kind: Kind, example: Example) -> Question:
    """Return the question in a row of a benchmark of that kind.

    Raises:
        DataError: The row is not as expected.
    """
    match kind:
        case "gsm8k":
            if "question" in example.content:
                return Question((example.text("question"),), example.text("answer"))
            return Question((example.text("instruction"),), f"#### {_label(example)}")
        case "math":
            asked, solution = ("problem", "solution")
            if "problem" not in example.content:
                asked, solution = ("instruction", "output")
            return Question((example.text(asked),), example.text(solution))
        case "number" | "letter":
            return Question((example.text("instruction"),), _label(example))
        case "choice":
            return _choice(example)
        case "mt-bench":
            labels = {name: example.content.get(name) for name in ("question_id", "category")}
            return Question(tuple(example.texts("turns")), labels=labels)
        case "alpaca-eval":
            instruction = example.text("instruction")
            labels = {"dataset": example.content.get("dataset"), "instruction": instruction}
            return Question((instruction,), labels=labels)


def _label(example: Example) -> str:
    """Return the text or the number in ``answer``."""
    label = example.content.get("answer")
    is_number = isinstance(label, (int, float)) and not isinstance(label, bool)
    return str(label) if is_number else example.text("answer")


def _choice(example: Example) -> Question:
    """Read the options from the end of the instruction, which lists them."""
    if "instruction" in example.content:
        found = Instructed(example.text("instruction"), example.text("answer"))
    else:
        found = instructed(example)
    _, mark, listed = found.instruction.rpartition(FORMAT)
    options = tuple(option.strip() for option in listed.split("/"))
    if not mark or found.answer not in options:
        raise DataError(
            f"{example.place}: expected {FORMAT!r} with options of which {found.answer!r} is one, "
            f"got {found.instruction[-80:]!r}"
        )
    return Question((found.instruction,), found.answer, options)
