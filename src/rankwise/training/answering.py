"""Benchmarks answered by a causal model with its adapter, and what the answers are worth.

RUN/answers/NAME-ROWS-PROTOCOL.jsonl    the completions, as they come
RUN/answers/NAME-ROWS-PROTOCOL.json     the score
RUN/answers/mt-bench-…/MODEL.jsonl, alpaca-eval-…/model_outputs.json    for the judging tools

The completions are kept one by one: the same call resumes an interrupted one.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from rankwise.core.errors import SettingsError
from rankwise.core.records import Record
from rankwise.evaluation.commonsense_likelihood import answer_likelihoods, likeliest
from rankwise.evaluation.generation import Decoding
from rankwise.evaluation.generation_answers import write_alpaca_eval, write_mt_bench
from rankwise.evaluation.generation_grades import NO_ANSWER, GradeCounts, grade_text
from rankwise.evaluation.judge import Endpoint
from rankwise.evaluation.judge_mt_bench import judge_mt_bench
from rankwise.tasks.generation.benchmarks import (
    Benchmark,
    find_benchmark,
    read_questions,
    sample_questions,
)
from rankwise.tasks.generation.questions import Question
from rankwise.training.generation_model import GenerationModel, Progress

Protocol = Literal["greedy", "sampled", "likelihood"]
# LoRA-SB's evaluation of the commonsense tasks.
_SAMPLED = {"temperature": 0.1, "top_p": 0.75, "top_k": 40}
_STOP_WORDS = ("Instruction", "Response")


@dataclass(frozen=True)
class GenerationRequest:
    """How a benchmark is to be answered.

    Attributes:
        rows: Questions of it, drawn by ``seed``; None: all.
        protocol: ``greedy``; ``sampled`` as LoRA-SB does; ``likelihood`` weighs given options.
        batch_size: Prompts at once.
        max_new_tokens: The longest answer; None: the benchmark's own.
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
class GenerationResult:
    """The result on one benchmark: grades, or where the answers lie and how they were rated."""

    name: str
    protocol: Protocol
    rows: int
    available: int
    seconds: float
    grades: GradeCounts | None = None
    files: tuple[Path, ...] = ()
    rating: float | None = None
    errors: tuple[str, ...] = ()


class BenchmarkRecord(Record):
    """What is kept of the answers to a graded benchmark: the counts, and both accuracies."""

    run: str
    task: str
    protocol: Protocol
    seed: int
    seconds: float
    rows: int
    available: int
    correct: int
    unparsed: int
    too_long: int
    truncated: int
    correct_as_published: int | None
    accuracy: float
    accuracy_as_published: float | None


def answer_benchmark(
    model: GenerationModel,
    name: str,
    request: GenerationRequest,
    progress: Progress = lambda _: None,
) -> GenerationResult:
    """Let the model answer the benchmark ``name``, and grade the answers or write them down.

    Raises:
        DataError: The benchmark cannot be read.
        SettingsError: There is no such benchmark, or its questions have no options to weigh.
    """
    benchmark = find_benchmark(name)
    every = read_questions(name, model.data_root)
    questions = sample_questions(every, request.rows, seed=request.seed)
    begun = time.perf_counter()
    options: dict[str, Any] = {"name": name, "request": request, "available": len(every)}
    if request.protocol == "likelihood":
        grades = _weigh_options(model, questions, **options)
    elif benchmark.is_judged:
        return _answer_dialogues(model, questions, progress=progress, **options)
    else:
        grades = _answer_questions(model, questions, progress=progress, **options)
    seconds = time.perf_counter() - begun
    stem = _stem(name, len(questions), request)
    BenchmarkRecord(
        run=model.name,
        task=name,
        protocol=request.protocol,
        seed=request.seed,
        seconds=seconds,
        accuracy=grades.accuracy,
        accuracy_as_published=grades.accuracy_as_published,
        **asdict(grades),
    ).write(model.folder / f"{stem}.json")
    return GenerationResult(
        name, request.protocol, len(questions), len(every), seconds, grades=grades
    )


def _stem(name: str, rows: int, request: GenerationRequest) -> str:
    longest = "" if request.max_new_tokens is None else f"-{request.max_new_tokens}"
    return f"{name}-{rows}-s{request.seed}-{request.protocol}{longest}"


def _decoding(benchmark: Benchmark, request: GenerationRequest) -> Decoding:
    options: dict[str, Any] = _SAMPLED if request.protocol == "sampled" else {}
    stop = _STOP_WORDS if benchmark.kind == "choice" else ()
    longest = request.max_new_tokens or benchmark.max_new_tokens
    return Decoding(longest, seed=request.seed, stop_words=stop, **options)


def _answer_questions(
    model: GenerationModel,
    questions: Sequence[Question],
    *,
    name: str,
    request: GenerationRequest,
    available: int,
    progress: Progress,
) -> GradeCounts:
    """Let the model generate, and grade the completions."""
    benchmark, prompts = find_benchmark(name), model.prompts
    prefix = prompts.response(benchmark.response_prefix) if benchmark.response_prefix else ""
    completions = model.complete(
        [prompts.text(question.turns) + prefix for question in questions],
        _stem(name, len(questions), request),
        decoding=_decoding(benchmark, request),
        batch_size=request.batch_size,
        progress=progress,
    )
    grades = [
        NO_ANSWER if each.text is None else grade_text(benchmark.kind, question, each.text)
        for question, each in zip(questions, completions, strict=True)
    ]
    return GradeCounts.from_grades(
        grades,
        available=available,
        too_long=sum(each.text is None for each in completions),
        truncated=sum(each.is_truncated for each in completions),
    )


def _weigh_options(
    model: GenerationModel,
    questions: Sequence[Question],
    *,
    name: str,
    request: GenerationRequest,
    available: int,
) -> GradeCounts:
    """Choose of each question's options the likeliest."""
    if model.model is None:
        raise SettingsError("options are weighed by Transformers alone: leave --engine out")
    if not all(question.options for question in questions):
        raise SettingsError(f"the questions of {name} have no options to weigh: generate greedily")
    prompts, answers = model.prompts, []
    for question in questions:
        prompt = prompts.text(question.turns)
        start = len(prompts.tokens([prompt])[0])
        texts = [
            prompt + prompts.response(f"the correct answer is {option}")
            for option in question.options
        ]
        answers += [([*tokens, prompts.end], start) for tokens in prompts.tokens(texts)]
    likelihoods = answer_likelihoods(
        model.model, answers, batch_size=request.batch_size, padding=prompts.padding
    )
    chosen = likeliest(likelihoods, [len(question.options) for question in questions])
    correct = sum(
        question.options[option] == question.reference
        for question, option in zip(questions, chosen, strict=True)
    )
    return GradeCounts(len(questions), available, correct, unparsed=0)


def _answer_dialogues(
    model: GenerationModel,
    questions: Sequence[Question],
    *,
    name: str,
    request: GenerationRequest,
    available: int,
    progress: Progress,
) -> GenerationResult:
    """Answer turn after turn, write the tools' files, and call the judge if there is one."""
    begun = time.perf_counter()
    stem = _stem(name, len(questions), request)
    answers = _dialogues(model, questions, name, request=request, progress=progress)
    folder = model.folder / stem
    result = GenerationResult(
        name, request.protocol, len(questions), available, time.perf_counter() - begun
    )
    if find_benchmark(name).kind == "alpaca-eval":
        file = folder / "model_outputs.json"
        write_alpaca_eval(file, questions, [turns[0] for turns in answers], model=model.name)
        return replace(result, files=(file,))
    file = folder / f"{model.name}.jsonl"
    write_mt_bench(file, questions, answers, model=model.name, time=time.time())
    if request.judge is None:
        return replace(result, files=(file,))
    kept = folder / "judgements.jsonl"
    found = judge_mt_bench(
        request.judge, questions, answers, root=model.data_root, file=kept, model=model.name
    )
    return replace(result, files=(file, kept), rating=found.score, errors=tuple(found.errors))


def _dialogues(
    model: GenerationModel,
    questions: Sequence[Question],
    name: str,
    *,
    request: GenerationRequest,
    progress: Progress,
) -> list[list[str]]:
    """Return the answers to the turns of each question."""
    stem, prompts = _stem(name, len(questions), request), model.prompts
    answers: list[list[str]] = [[] for _ in questions]
    for turn in range(max(len(question.turns) for question in questions)):
        rows = [row for row, question in enumerate(questions) if turn < len(question.turns)]
        completions = model.complete(
            [prompts.text(_messages(questions[row], answers[row], turn)) for row in rows],
            f"{stem}-turn{turn + 1}",
            decoding=_decoding(find_benchmark(name), request),
            batch_size=request.batch_size,
            progress=progress,
        )
        for row, each in zip(rows, completions, strict=True):
            answers[row].append((each.text or "").strip())
    return answers


def _messages(question: Question, answers: Sequence[str], turn: int) -> list[str]:
    """Return the messages of the dialogue up to the user's ``turn``."""
    before = [text for pair in zip(question.turns, answers[:turn]) for text in pair]
    return [*before, question.turns[turn]]
