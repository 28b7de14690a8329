"""``rankwise evaluate ADAPTER --harness lm_eval --tasks``: EleutherAI's harness asks the model."""

from __future__ import annotations

import argparse
from typing import Any

from rich.table import Table

from rankwise.cli.answering_options import BATCH_SIZE, ROWS, task_options
from rankwise.cli.showing import add_columns, add_row, say, show_table
from rankwise.core.records import write_record
from rankwise.core.runtime import versions
from rankwise.evaluation.harness import HarnessResult, find_tasks, run_harness
from rankwise.training.evaluating import find_causal


def show_harness(arguments: argparse.Namespace, overrides: dict[str, Any]) -> int:
    """Let the harness ask each task, record what it found, and print the scores."""
    options = task_options(overrides, "--harness")
    # A name that does not exist, or data that are not there, should show before a model is loaded.
    tasks = find_tasks(
        [name.strip() for name in arguments.tasks.split(",")], arguments.include_path
    )
    causal = find_causal(arguments.run, options)
    model = causal.load()
    rows = None if arguments.full else arguments.rows or ROWS
    size = arguments.batch_size or BATCH_SIZE
    results = []
    for task in tasks:
        found = run_harness(model, causal.tokenizer, task, rows=rows, batch_size=size)
        results.append(found)
        file = causal.folder / f"lm_eval-{task.name}-{rows or 'all'}.json"
        asked = {"run": causal.name, "task": task.name, "rows": rows, "batch_size": size}
        write_record(
            file, asked | {"seconds": found.seconds, "packages": versions()} | found.content
        )
        say(f"written: {file}")
    show_table(_table(results))
    return 0


def _table(results: list[HarnessResult]) -> Table:
    table = Table()
    headings = ("task", "version", "questions", "shots", "metric", "score", "± (1 s.e.)")
    add_columns(table, headings, texts=("task", "metric"))
    for result in results:
        for each in result.measures():
            error = "-" if each.error is None else f"{each.error:.4f}"
            cells = [each.task, each.version, each.rows, each.shots, each.metric]
            add_row(table, *cells, f"{each.value:.4f}", error)
    return table
