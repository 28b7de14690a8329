"""``rankwise evaluate PATH --tasks``: benchmarks for a causal model, and a table of scores."""

from __future__ import annotations

import argparse
import os
from typing import Any

from rich.table import Table

from rankwise.cli.answering_options import BATCH_SIZE, ROWS, task_options
from rankwise.cli.showing import add_columns, add_row, say, show_table
from rankwise.core.errors import SettingsError
from rankwise.evaluation.judge import Endpoint
from rankwise.tasks.generation.benchmarks import find_benchmark
from rankwise.training.answering import GenerationRequest, GenerationResult, answer_benchmark
from rankwise.training.generation_model import opened_for_generation

_KEY = "OPENAI_API_KEY"


def show_answers(arguments: argparse.Namespace, overrides: dict[str, Any]) -> int:
    """Answer each benchmark, and print the scores; 1 if a judge left some unrated."""
    options = task_options(overrides, "--tasks")
    request = GenerationRequest(
        rows=None if arguments.full else arguments.rows or ROWS,
        protocol=arguments.protocol or "greedy",
        batch_size=arguments.batch_size or BATCH_SIZE,
        max_new_tokens=arguments.max_new_tokens,
        seed=arguments.questions_seed or 0,
        judge=_judge(arguments),
    )
    names = [name.strip() for name in arguments.tasks.split(",")]
    for name in names:
        find_benchmark(name)
    results = []
    engine = arguments.engine or "transformers"
    with opened_for_generation(arguments.run, options, engine=engine) as model:
        for name in names:
            results.append(answer_benchmark(model, name, request))
            say(*(f"written: {file}" for file in results[-1].files))
            say(*(f"not rated: {error}" for error in results[-1].errors))
    show_table(_table(results))
    return int(any(result.errors for result in results))


def _judge(arguments: argparse.Namespace) -> Endpoint | None:
    if arguments.judge is None:
        return None
    if not arguments.judge_model:
        raise SettingsError("--judge needs --judge-model NAME, the model that rates")
    return Endpoint(arguments.judge, arguments.judge_model, key=os.environ.get(_KEY))


def _table(results: list[GenerationResult]) -> Table:
    table = Table()
    headings = (
        "task",
        "protocol",
        "questions",
        "score",
        "as published",
        "no answer",
        "truncated",
        "seconds",
    )
    add_columns(table, headings, texts=("task", "protocol"))
    for result in results:
        grades = result.grades
        if grades is not None:
            published = grades.accuracy_as_published
            cells = [f"{grades.accuracy:.3f}", "-" if published is None else f"{published:.3f}"]
            cells += [str(grades.unparsed), str(grades.truncated)]
        else:
            rating = "-" if result.rating is None else f"{result.rating:.2f} of 10"
            cells = [rating, "-", "-", "-"]
        asked = f"{result.rows:,} of {result.available:,}"
        add_row(table, result.name, result.protocol, asked, *cells, f"{result.seconds:.1f}")
    return table
