"""MT-Bench's judgement of single answers: a rating from 1 to 10 for each of the two turns.

Prompts, categories with reference answers and the form of the rating are FastChat's (``llm_judge``,
Zheng et al. 2023, arXiv 2306.05685), and so is the file of judgements. Each judgement is on disk as
soon as it is there; called again, the judge rates only what has no rating yet.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rankwise.core.errors import DataError, SettingsError
from rankwise.evaluation.judge import Endpoint
from rankwise.tasks.generation.examples import Example, find_file, read_examples
from rankwise.tasks.generation.questions import Question

_RATING = re.compile(r"\[\[(\d+(?:\.\d+)?)\]\]")
_WITH_REFERENCE = ("math", "reasoning", "coding")
# Below the data root: in our layout, or in FastChat's ``fastchat/llm_judge/data``.
_PROMPTS = ("dialogue/mt_bench/judge_prompts", "judge_prompts")
_REFERENCES = (
    "dialogue/mt_bench/reference_answer_gpt-4",
    "mt_bench/reference_answer/gpt-4",
)
Judgement = dict[str, Any]


@dataclass(frozen=True)
class Judgements:
    """The ratings of all turns that have one, and why others have none."""

    ratings: list[float]
    errors: list[str]

    @property
    def score(self) -> float | None:
        """The mean rating, or None without any."""
        return sum(self.ratings) / len(self.ratings) if self.ratings else None


def parse_rating(text: str) -> float | None:
    """Return the rating from 1 to 10 in double brackets, or None.

    >>> parse_rating("Well argued. Rating: [[7]]")
    7.0
    """
    found = _RATING.search(text)
    rating = None if found is None else float(found.group(1))
    return rating if rating is not None and 1 <= rating <= 10 else None


def judge_mt_bench(
    endpoint: Endpoint,
    questions: Sequence[Question],
    answers: Sequence[Sequence[str]],
    *,
    root: Path | None,
    file: Path,
    model: str,
) -> Judgements:
    """Have the endpoint rate each turn of each answer, and keep the judgements in ``file``.

    Args:
        endpoint: The judge.
        questions: Those of MT-Bench.
        answers: The turns of each question's answer.
        root: The data root, with FastChat's prompts and reference answers: they are not on the Hub.
        file: Grows by a line a judgement.
        model: Whose answers these are.

    Raises:
        DataError: Prompts or references are missing or of another form, or the file is damaged.
        SettingsError: There is no data root.
    """
    prompts = _by(_read(root, _PROMPTS), "name")
    references = _by(_read(root, _REFERENCES), "question_id")
    rated = _rated(file)
    errors = []
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", encoding="utf-8") as lines:
        for question, turns in zip(questions, answers, strict=True):
            number = question.labels["question_id"]
            for turn in range(1, len(turns) + 1):
                if (number, turn) in rated:
                    continue
                needs = question.labels["category"] in _WITH_REFERENCE
                reference = references.get(number) if needs else None
                name, messages = _messages(prompts, question, turns[:turn], reference)
                judgement = _judgement(endpoint, messages)
                content = {"question_id": number, "model": model, "turn": turn}
                content |= {"judge": [endpoint.model, name], "user_prompt": messages[1]["content"]}
                lines.write(json.dumps(content | judgement, ensure_ascii=False) + "\n")
                lines.flush()
                if judgement["error"] is None:
                    rated[number, turn] = judgement["score"]
                else:
                    errors.append(f"question {number}, turn {turn}: {judgement['error']}")
    return Judgements(list(rated.values()), errors)


def _read(root: Path | None, stems: tuple[str, ...]) -> list[Example]:
    if root is None:
        raise SettingsError(
            "a judge needs FastChat's prompts and reference answers: copy its folder "
            "fastchat/llm_judge/data and name it by --task.data_root"
        )
    path = find_file(root, stems)
    return read_examples(path, name=path.relative_to(root).as_posix())


def _by(examples: Sequence[Example], column: str) -> dict[str | int, Example]:
    """Return the examples by what stands in ``column``, a text or a number."""
    found: dict[str | int, Example] = {}
    for each in examples:
        key = each.content.get(column)
        if not isinstance(key, str | int):
            raise DataError(f"{each.place}: expected a text or a number in {column!r}, got {key!r}")
        found[key] = each
    return found


def _rated(file: Path) -> dict[tuple[Any, int], float]:
    """Return the ratings that a former call has written; a half-written line is none."""
    if not file.exists():
        return {}
    content = file.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        with file.open("r+b") as handle:
            handle.truncate(len(whole))
    try:
        # Only a line feed ends a line: texts hold other characters that Python takes for ends.
        lines = [json.loads(line) for line in whole.decode("utf-8").split("\n") if line]
        rated = [line for line in lines if line["error"] is None]
        return {(line["question_id"], line["turn"]): float(line["score"]) for line in rated}
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise DataError(f"{file} is no file of judgements ({error!r}): remove it") from None


def _messages(
    prompts: Mapping[str | int, Example], question: Question, turns: Sequence[str], reference: Any
) -> tuple[str, list[dict[str, str]]]:
    """Return the name of the prompt and the two messages for the last of ``turns``."""
    name = "single-v1" if reference is None else "single-math-v1"
    name += "-multi-turn" if len(turns) > 1 else ""
    if name not in prompts:
        raise DataError(f"{_PROMPTS[0]} has no prompt {name!r}: fetch it again")
    fields = {"question": question.turns[0], "answer": turns[0]}
    fields |= {f"question_{i}": text for i, text in enumerate(question.turns, start=1)}
    fields |= {f"answer_{i}": text for i, text in enumerate(turns, start=1)}
    if reference is not None:
        right = _turns_of(reference)
        fields |= {f"ref_answer_{i}": text for i, text in enumerate(right, start=1)}
    line = prompts[name]
    try:
        asked = line.text("prompt_template").format(**fields)
    except (KeyError, IndexError, AttributeError, ValueError, TypeError) as error:
        raise DataError(
            f"{line.place}: 'prompt_template' cannot be filled with {', '.join(fields)} "
            f"({error!r}): fetch it again"
        ) from None
    return name, [
        {"role": "system", "content": line.text("system_prompt")},
        {"role": "user", "content": asked},
    ]


def _turns_of(reference: Example) -> list[str]:
    """Return the turns of a reference answer, in FastChat's form."""
    try:
        turns = reference.content["choices"][0]["turns"]
    except (KeyError, IndexError, TypeError):
        turns = None
    if not isinstance(turns, list) or not all(isinstance(each, str) for each in turns):
        raise DataError(
            f"{reference.place} has no choices[0].turns, a list of texts: fetch it again"
        )
    return turns


def _judgement(endpoint: Endpoint, messages: list[dict[str, str]]) -> Judgement:
    reply = endpoint.complete(messages)
    rating = None if reply.text is None else parse_rating(reply.text)
    error = reply.error
    if error is None and rating is None:
        error = f"no rating such as [[7]] in {(reply.text or '')[-80:]!r}"
    # FastChat marks what could not be judged by -1.
    score = -1 if rating is None else rating
    return {"judgment": reply.text, "score": score, "error": error, "tstamp": time.time()}
