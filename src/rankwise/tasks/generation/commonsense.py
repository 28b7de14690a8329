"""Rows of the eight commonsense sets as their authors publish them, as LLM-Adapters puts them.

| set | columns |
|---|---|
| BoolQ | question, answer (true or false) |
| PIQA | goal, sol1, sol2, label from 0 |
| SIQA | context, question, answerA, answerB, answerC, label from 1 |
| HellaSwag | activity_label, ctx, endings, label from 0 |
| WinoGrande | sentence, option1, option2, answer from 1 |
| ARC | question, choices, answerKey (a letter or a number) |
| OpenBookQA | question_stem, choices, answerKey |

The instructions are those of LLM-Adapters (Hu et al. 2023, arXiv 2304.01933; ``dataset/`` of
AGI-Edgerunners/LLM-Adapters), word for word, in which Commonsense170K trains.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from rankwise.core.errors import DataError
from rankwise.tasks.generation.examples import Example

FORMAT = "Answer format:"
_CHOOSE = "Please choose the correct answer to the question:"


class Instructed(NamedTuple):
    """An instruction that ends with the options, and the right one of them."""

    instruction: str
    answer: str


def instructed(example: Example) -> Instructed:
    """Return the instruction and the answer of a row.

    Raises:
        DataError: Its columns are none of the known ones, or its label is none of its options.
    """
    columns = example.content.keys()
    for known, read in _FORMS.items():
        if set(known) <= columns:
            return read(example)
    raise DataError(
        f"{example.place}: expected the columns instruction and answer, or those of one of the "
        f"eight commonsense sets, got {', '.join(columns) or 'none'}"
    )


def _boolq(example: Example) -> Instructed:
    answer = example.content["answer"]
    if not isinstance(answer, bool):
        raise DataError(f"{example.place}: expected true or false in 'answer', got {answer!r}")
    asked = example.text("question").removesuffix("?")
    return Instructed(
        f"Please answer the following question with true or false, question: {asked}?\n\n"
        f"{FORMAT} true/false",
        str(answer).lower(),
    )


def _piqa(example: Example) -> Instructed:
    texts = [example.text("sol1"), example.text("sol2")]
    return _choice(
        f"Please choose the correct solution to the question: {example.text('goal')}",
        "solution",
        texts,
        number=_number(example, "label", range(2)),
        between="\n\n",
    )


def _siqa(example: Example) -> Instructed:
    return _choice(
        f"{_CHOOSE} {example.text('context')} {example.text('question')}",
        "answer",
        [example.text(f"answer{letter}") for letter in "ABC"],
        number=_number(example, "label", range(1, 4)),
    )


def _hellaswag(example: Example) -> Instructed:
    context = example.text("ctx")
    if "activity_label" in example.content:
        context = f"{example.text('activity_label')}: {context}"
    endings = example.texts("endings")
    return _choice(
        f"Please choose the correct ending to complete the given sentence: {context}",
        "ending",
        endings,
        number=_number(example, "label", range(len(endings))),
    )


def _winogrande(example: Example) -> Instructed:
    return _choice(
        "Please choose the correct answer to fill in the blank to complete the given sentence: "
        f"{example.text('sentence')}",
        "option",
        [example.text("option1"), example.text("option2")],
        number=_number(example, "answer", range(1, 3)),
        before_format=" ",
    )


def _arc(example: Example) -> Instructed:
    return _choices(example, "question")


def _openbookqa(example: Example) -> Instructed:
    return _choices(example, "question_stem")


def _choices(example: Example, column: str) -> Instructed:
    """Read the options from ``choices``, a mapping of texts and of the labels that name them."""
    choices, key = example.content["choices"], example.text("answerKey")
    inner = Example(choices if isinstance(choices, dict) else {}, f"{example.place}, choices")
    texts, labels = inner.texts("text"), inner.texts("label")
    if key not in labels or len(labels) != len(texts):
        raise DataError(f"{example.place}: the answerKey must be one of {labels}, got {key!r}")
    number = labels.index(key)
    return _choice(f"{_CHOOSE} {example.text(column)}", "answer", texts, number=number)


def _number(example: Example, column: str, allowed: range) -> int:
    """Return the label in ``column``, a number or its digits, counted from 0."""
    label = example.content[column]
    is_number = not isinstance(label, bool) and str(label).isdecimal()
    if not is_number or int(label) not in allowed:
        raise DataError(
            f"{example.place}: the {column} must be from {allowed[0]} to {allowed[-1]}, got "
            f"{label!r}"
        )
    return int(label) - allowed.start


def _choice(
    question: str,
    word: str,
    texts: Sequence[str],
    *,
    number: int,
    between: str = " ",
    before_format: str = "\n\n",
) -> Instructed:
    options = [f"{word}{index}" for index in range(1, len(texts) + 1)]
    listed = between.join(
        f"{option.capitalize()}: {text}" for option, text in zip(options, texts, strict=True)
    )
    instruction = f"{question}\n\n{listed}{before_format}{FORMAT} {'/'.join(options)}"
    return Instructed(instruction, options[number])


_FORMS: dict[tuple[str, ...], Callable[[Example], Instructed]] = {
    ("goal", "sol1", "sol2", "label"): _piqa,
    ("context", "question", "answerA", "answerB", "answerC", "label"): _siqa,
    ("ctx", "endings", "label"): _hellaswag,
    ("sentence", "option1", "option2", "answer"): _winogrande,
    ("question", "choices", "answerKey"): _arc,
    ("question_stem", "choices", "answerKey"): _openbookqa,
    ("question", "answer"): _boolq,
}
