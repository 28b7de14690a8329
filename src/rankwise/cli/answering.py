"""``rankwise evaluate RUN --tasks``: questions to the model of a run, and a table of scores."""

from __future__ import annotations

import argparse
import os

from rich.table import Table

from rankwise.cli.answering_options import BATCH_SIZE, ROWS
from rankwise.cli.showing import add_columns, add_row, say, show_table
from rankwise.core.errors import SettingsError
from rankwise.evaluation.judge import Endpoint
from rankwise.training.answering import Asking, Result, ask, open_respondent

_KEY = "OPENAI_API_KEY"


def show_answers(arguments: argparse.Namespace) -> int:
    """Ask the questions of each set, and print the scores; 1 if a judge left some unrated."""
    asking = Asking(
        rows=None if arguments.full else arguments.rows or ROWS,
        protocol=arguments.protocol or "greedy",
        batch_size=arguments.batch_size or BATCH_SIZE,
        max_new_tokens=arguments.max_new_tokens,
        seed=arguments.questions_seed or 0,
        judge=_judge(arguments),
    )
    respondent = open_respondent(arguments.run)
    results = []
    for name in arguments.tasks.split(","):
        results.append(ask(respondent, name.strip(), asking))
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


def _table(results: list[Result]) -> Table:
    table = Table()
    headings = ("task", "protocol", "questions", "score", "no answer", "cut", "seconds")
    add_columns(table, headings, texts=("task", "protocol"))
    for result in results:
        grades = result.grades
        if grades is not None:
            cells = [f"{grades.accuracy:.3f}", str(grades.unparsed), str(grades.truncated)]
        else:
            cells = ["-" if result.rating is None else f"{result.rating:.2f} of 10", "-", "-"]
        asked = f"{result.rows:,} of {result.available:,}"
        add_row(table, result.name, result.protocol, asked, *cells, f"{result.seconds:.1f}")
    return table
