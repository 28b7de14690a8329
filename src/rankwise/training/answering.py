"""What the trained model of a run answers to the evaluation sets, and what that is worth.

RUN/answers/NAME-ROWS-PROTOCOL.jsonl    the texts, as they come
RUN/answers/NAME-ROWS-PROTOCOL.json     the score
RUN/answers/mt-bench-…/MODEL.jsonl, alpaca-eval-…/model_outputs.json    for the judging tools

The texts are kept one by one: the same call goes on where a stopped one stood.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import nn

from rankwise.core.errors import SettingsError
from rankwise.core.records import write_record
from rankwise.evaluation.commonsense_likelihood import answer_likelihoods, likeliest
from rankwise.evaluation.generation import Completion, Decoding, TextGenerator
from rankwise.evaluation.generation_answers import write_alpaca_eval, write_mt_bench
from rankwise.evaluation.generation_grades import GradeCounts, grade_text
from rankwise.evaluation.judge import Endpoint
from rankwise.evaluation.judge_mt_bench import judge_mt_bench
from rankwise.tasks.data_root import required_data_root
from rankwise.tasks.generation.prompts import Prompts
from rankwise.tasks.generation.questions import (
    Benchmark,
    Question,
    find_benchmark,
    read_questions,
    sample_questions,
)
from rankwise.training.build import build_causal_task
from rankwise.training.finished import FinishedRun, on_accelerator

Protocol = Literal["greedy", "sampled", "likelihood"]
# LoRA-SB's evaluation of the commonsense tasks.
_SAMPLED = {"temperature": 0.1, "top_p": 0.75, "top_k": 40}
_STOP_WORDS = ("Instruction", "Response")


@dataclass(frozen=True)
class Asking:
    """How questions are asked.

    Attributes:
        rows: Questions of each set, drawn by ``seed``; None: all.
        protocol: ``greedy``; ``sampled`` as LoRA-SB does; ``likelihood`` weighs given options.
        batch_size: Prompts at once.
        max_new_tokens: The longest answer; None: the set's own.
        seed: Of the draw and of sampling.
        judge: Rates MT-Bench's answers; None: they are written and not judged.
    """

    rows: int | None = 200
    protocol: Protocol = "greedy"
    batch_size: int = 16
    max_new_tokens: int | None = None
    seed: int = 0
    judge: Endpoint | None = None


@dataclass(frozen=True)
class Result:
    """The result on one set: grades, or where the answers lie and what the judge said."""

    name: str
    protocol: Protocol
    rows: int
    available: int
    seconds: float
    grades: GradeCounts | None = None
    files: tuple[Path, ...] = ()
    rating: float | None = None
    errors: tuple[str, ...] = ()


@dataclass(frozen=True)
class Respondent:
    """The trained model of a run, ready to be asked."""

    model: nn.Module
    prompts: Prompts
    folder: Path
    root: Path
    name: str

    @property
    def context(self) -> int | None:
        """How many tokens the model sees, if it says so."""
        return getattr(self.model.config, "max_position_embeddings", None)

    def write(
        self,
        texts: Sequence[str],
        stem: str,
        *,
        decoding: Decoding,
        batch_size: int,
        watch: Callable[[int], None],
    ) -> list[Completion]:
        """Return what the model writes after ``texts``; the file STEM.jsonl keeps it."""
        generator = TextGenerator(
            self.model,
            self.prompts.tokenizer,
            batch_size=batch_size,
            padding=self.prompts.padding,
            context=self.context,
        )
        file = self.folder / f"{stem}.jsonl"
        return generator.complete(self.prompts.tokens(texts), decoding, file, progress=watch)


def open_respondent(path: Path, data_root: Path | None = None) -> Respondent:
    """Return the trained model of the finished run at ``path``, on a GPU where there is one.

    Raises:
        AdapterError: The run cannot be read.
        SettingsError: Its task has no causal language model, or no data root is named.
    """
    run = FinishedRun.open(path)
    task = build_causal_task(run.settings)
    root = required_data_root(data_root or task.data_root, task="evaluation")
    model = on_accelerator(run.trained_model())
    return Respondent(model, task.prompts(), run.folder.answers, root, run.name)


def ask(
    respondent: Respondent, name: str, asking: Asking, watch: Callable[[int], None] = lambda _: None
) -> Result:
    """Ask the questions of the evaluation set ``name`` and grade, or write down, the answers.

    Raises:
        DataError: The set's file is missing or broken.
        SettingsError: There is no such set, or its questions have no options to weigh.
    """
    benchmark = find_benchmark(name)
    every = read_questions(benchmark, respondent.root)
    questions = sample_questions(every, asking.rows, seed=asking.seed)
    begun = time.perf_counter()
    options: dict[str, Any] = {"name": name, "asking": asking, "available": len(every)}
    if asking.protocol == "likelihood":
        found = _weigh(respondent, questions, **options)
    elif benchmark.is_judged:
        return _converse(respondent, questions, watch=watch, **options)
    else:
        found = _solve(respondent, questions, watch=watch, **options)
    seconds = time.perf_counter() - begun
    stem = _stem(name, len(questions), asking)
    content = {"run": respondent.name, "task": name, "protocol": asking.protocol}
    content |= {"seed": asking.seed, "seconds": seconds} | found.to_dict()
    write_record(respondent.folder / f"{stem}.json", content)
    return Result(name, asking.protocol, len(questions), len(every), seconds, grades=found)


def _stem(name: str, rows: int, asking: Asking) -> str:
    longest = "" if asking.max_new_tokens is None else f"-{asking.max_new_tokens}"
    return f"{name}-{rows}-s{asking.seed}-{asking.protocol}{longest}"


def _decoding(benchmark: Benchmark, asking: Asking) -> Decoding:
    options: dict[str, Any] = _SAMPLED if asking.protocol == "sampled" else {}
    stop = _STOP_WORDS if benchmark.kind in ("choice", "ending") else ()
    longest = asking.max_new_tokens or benchmark.max_new_tokens
    return Decoding(longest, seed=asking.seed, stop_words=stop, **options)


def _solve(
    respondent: Respondent,
    questions: Sequence[Question],
    *,
    name: str,
    asking: Asking,
    available: int,
    watch: Callable[[int], None],
) -> GradeCounts:
    """Let the model write, and grade what it wrote."""
    benchmark, prompts = find_benchmark(name), respondent.prompts
    beginning = prompts.response(benchmark.response_prefix) if benchmark.response_prefix else ""
    asked = [prompts.text(question.turns) + beginning for question in questions]
    stem, decoding = _stem(name, len(questions), asking), _decoding(benchmark, asking)
    written = respondent.write(
        asked, stem, decoding=decoding, batch_size=asking.batch_size, watch=watch
    )
    grades = [
        None if each.text is None else grade_text(benchmark.kind, question, each.text)
        for question, each in zip(questions, written, strict=True)
    ]
    return GradeCounts.from_grades(
        grades,
        available=available,
        too_long=sum(each.text is None for each in written),
        truncated=sum(each.is_truncated for each in written),
    )


def _weigh(
    respondent: Respondent,
    questions: Sequence[Question],
    *,
    name: str,
    asking: Asking,
    available: int,
) -> GradeCounts:
    """Choose of each question's options the likeliest."""
    if not all(question.options for question in questions):
        raise SettingsError(f"the questions of {name} have no options to weigh: ask greedily")
    prompts, answers = respondent.prompts, []
    for question in questions:
        asked = prompts.text(question.turns)
        start = len(prompts.tokens([asked])[0])
        texts = [
            asked + prompts.response(f"the correct answer is {option}")
            for option in question.options
        ]
        answers += [([*tokens, prompts.end], start) for tokens in prompts.tokens(texts)]
    likelihoods = answer_likelihoods(
        respondent.model, answers, batch_size=asking.batch_size, padding=prompts.padding
    )
    chosen = likeliest(likelihoods, [len(question.options) for question in questions])
    grades: list[bool | None] = [
        question.options[option] == question.reference
        for question, option in zip(questions, chosen, strict=True)
    ]
    return GradeCounts.from_grades(grades, available=available)


def _converse(
    respondent: Respondent,
    questions: Sequence[Question],
    *,
    name: str,
    asking: Asking,
    available: int,
    watch: Callable[[int], None],
) -> Result:
    """Answer turn after turn, write the tools' files, and ask the judge if there is one."""
    begun, benchmark = time.perf_counter(), find_benchmark(name)
    stem, prompts = _stem(name, len(questions), asking), respondent.prompts
    answers: list[list[str]] = [[] for _ in questions]
    for turn in range(max(len(question.turns) for question in questions)):
        rows = [row for row, question in enumerate(questions) if turn < len(question.turns)]
        asked = [prompts.text(_turns(questions[row], answers[row], turn)) for row in rows]
        written = respondent.write(
            asked,
            f"{stem}-turn{turn + 1}",
            decoding=_decoding(benchmark, asking),
            batch_size=asking.batch_size,
            watch=watch,
        )
        for row, each in zip(rows, written, strict=True):
            answers[row].append((each.text or "").strip())
    folder, model = respondent.folder / stem, respondent.name
    result = {"seconds": time.perf_counter() - begun, "protocol": asking.protocol}
    if benchmark.kind == "alpaca-eval":
        file = folder / "model_outputs.json"
        write_alpaca_eval(file, questions, [turns[0] for turns in answers], model=model)
        return Result(name, rows=len(questions), available=available, files=(file,), **result)
    file = folder / f"{model}.jsonl"
    write_mt_bench(file, questions, answers, model=model, time=time.time())
    judged: dict[str, Any] = {"files": (file,)}
    if asking.judge is not None:
        kept = folder / "judgements.jsonl"
        found = judge_mt_bench(
            asking.judge, questions, answers, root=respondent.root, file=kept, model=model
        )
        judged = {"files": (file, kept), "rating": found.score, "errors": tuple(found.errors)}
    return Result(name, rows=len(questions), available=available, **judged, **result)


def _turns(question: Question, answers: Sequence[str], turn: int) -> list[str]:
    """Return what was said up to the user's ``turn``."""
    said = [text for pair in zip(question.turns, answers[:turn]) for text in pair]
    return [*said, question.turns[turn]]
