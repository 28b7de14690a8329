"""The questions of the evaluation sets, read from local files, with what is right.

| kind | columns | what is right |
|---|---|---|
| gsm8k | question, answer | the number after ``####`` |
| math | problem, solution | the formula in the last ``\\boxed{}`` |
| number, letter, choice | instruction, answer | the label |
| ending (HellaSwag) | ctx, endings, label | the ending of that number |
| mt-bench | question_id, category, turns | judged |
| alpaca-eval | dataset, instruction | judged |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from rankwise.core.errors import DataError, SettingsError, nearest_names
from rankwise.core.seeds import derive_seed
from rankwise.tasks.generation.lines import Line, find_lines, read_lines

Kind = Literal["gsm8k", "math", "number", "letter", "choice", "ending", "mt-bench", "alpaca-eval"]

_FORMAT = "Answer format:"
_STEPS = "Let's think step by step."


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


@dataclass(frozen=True)
class Benchmark:
    """An evaluation set: its local files without endings, the first that exists is read.

    ``response_prefix`` is what the response begins with, ``max_new_tokens`` how long it may be.
    """

    kind: Kind
    files: tuple[str, ...]
    response_prefix: str = ""
    max_new_tokens: int = 32

    @property
    def is_judged(self) -> bool:
        """Whether answers are kept for a judge instead of graded."""
        return self.kind in ("mt-bench", "alpaca-eval")


def _arithmetic(kind: Kind, *files: str) -> Benchmark:
    return Benchmark(kind, tuple(f"arithmetic/{file}" for file in files), _STEPS, 512)


def _commonsense(folder: str, kind: Kind = "choice", split: str = "test") -> Benchmark:
    return Benchmark(kind, (f"commonsense/{folder}/{split}",))


BENCHMARKS = {
    "gsm8k": _arithmetic("gsm8k", "gsm8k/test"),
    "math": _arithmetic("math", "MATH/test", "MATH/test_sample400"),
    "addsub": _arithmetic("number", "AddSub/test"),
    "multiarith": _arithmetic("number", "MultiArith/test"),
    "singleeq": _arithmetic("number", "SingleEq/test"),
    "mawps": _arithmetic("number", "mawps/test"),
    "aqua": _arithmetic("letter", "AQuA/test"),
    "mathqa": _arithmetic("letter", "mathqa/test"),
    "boolq": _commonsense("boolq"),
    "piqa": _commonsense("piqa"),
    "siqa": _commonsense("social_i_qa"),
    "hellaswag": _commonsense("hellaswag", "ending", "validation"),
    "winogrande": _commonsense("winogrande"),
    "arc-e": _commonsense("ARC-Easy"),
    "arc-c": _commonsense("ARC-Challenge"),
    "obqa": _commonsense("openbookqa"),
    "mt-bench": Benchmark("mt-bench", ("dialogue/mt_bench/question",), max_new_tokens=1024),
    "alpaca-eval": Benchmark(
        "alpaca-eval",
        ("dialogue/alpaca_eval/questions", "dialogue/alpaca_eval/gpt4_1106_preview_outputs"),
        max_new_tokens=1024,
    ),
}


def find_benchmark(name: str) -> Benchmark:
    """Return the evaluation set ``name``.

    Raises:
        SettingsError: There is none.
    """
    if name not in BENCHMARKS:
        raise SettingsError(f"no evaluation set {name!r}; {nearest_names(name, BENCHMARKS)}")
    return BENCHMARKS[name]


def read_questions(benchmark: Benchmark, root: Path) -> list[Question]:
    """Return the questions in the order of their file.

    Raises:
        DataError: The file is missing or broken, or a row is not as expected.
    """
    *others, last = benchmark.files
    there = (stem for stem in others if any((root / stem).parent.glob(f"{Path(stem).name}.json*")))
    path = find_lines(root, next(there, last))
    name = path.relative_to(root).as_posix()
    return [_question(benchmark.kind, line) for line in read_lines(path, name=name)]


def sample_questions(
    questions: Sequence[Question], count: int | None, *, seed: int
) -> list[Question]:
    """Return ``count`` questions drawn by ``seed``, in file order; None, or more than are: all."""
    if count is None or count >= len(questions):
        return list(questions)
    generator = torch.Generator().manual_seed(derive_seed(seed, "questions"))
    drawn = torch.randperm(len(questions), generator=generator)[:count]
    return [questions[row] for row in sorted(drawn.tolist())]


def _question(kind: Kind, line: Line) -> Question:
    match kind:
        case "gsm8k":
            return Question((line.text("question"),), line.text("answer"))
        case "math":
            return Question((line.text("problem"),), line.text("solution"))
        case "number" | "letter":
            return Question((line.text("instruction"),), line.text("answer"))
        case "choice":
            return _choice(line.text("instruction"), line.text("answer"), line.place)
        case "ending":
            return _ending(line)
        case "mt-bench":
            labels = {name: line.content.get(name) for name in ("question_id", "category")}
            return Question(tuple(line.texts("turns")), labels=labels)
        case "alpaca-eval":
            instruction = line.text("instruction")
            labels = {"dataset": line.content.get("dataset"), "instruction": instruction}
            return Question((instruction,), labels=labels)


def _choice(instruction: str, answer: str, place: str) -> Question:
    """Read the options from the end of the instruction, which lists them."""
    _, mark, listed = instruction.rpartition(_FORMAT)
    options = tuple(option.strip() for option in listed.split("/"))
    if not mark or answer not in options:
        raise DataError(
            f"{place}: expected {_FORMAT!r} with options of which {answer!r} is one, got "
            f"{instruction[-80:]!r}"
        )
    return Question((instruction,), answer, options)


def _ending(line: Line) -> Question:
    """Put a row of HellaSwag into the form of the others, whose instructions come ready made."""
    endings, label = line.texts("endings"), line.content.get("label")
    if not isinstance(label, int) or label not in range(len(endings)):
        raise DataError(
            f"{line.place}: the label must be from 0 to {len(endings) - 1}, got {label!r}"
        )
    options = [f"ending{number}" for number in range(1, len(endings) + 1)]
    listed = " ".join(
        f"{option.capitalize()}: {text}" for option, text in zip(options, endings, strict=True)
    )
    instruction = (
        "Please choose the correct ending to complete the given sentence: "
        f"{line.text('ctx')}\n\n{listed}\n\n{_FORMAT} {'/'.join(options)}"
    )
    return _choice(instruction, options[label], line.place)
