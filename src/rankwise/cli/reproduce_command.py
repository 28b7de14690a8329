"""``rankwise reproduce``: a table of a paper, from training to the scores beside the published."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from rankwise.cli import compare_command
from rankwise.cli.arguments import add_results, positive
from rankwise.cli.showing import add_columns, add_row, say, show_table
from rankwise.comparison.effort import (
    GPUS,
    UTILISATION,
    Effort,
    tokens_of_row,
    training_seconds,
)
from rankwise.comparison.experiments import EXPERIMENTS, Experiment, find_experiment
from rankwise.comparison.folder import read_runs, read_summary
from rankwise.comparison.plan import runs_of_a_method
from rankwise.comparison.records import Summary
from rankwise.comparison.report.comparison import Comparison
from rankwise.comparison.reproduced import reproduced, reproduced_table, reproduced_text
from rankwise.core.errors import SettingsError, nearest_names
from rankwise.core.records import write_text
from rankwise.training.folder import runs_below
from rankwise.training.records import identity_of
from rankwise.training.settings.comparison import ComparedMethod
from rankwise.training.settings.grid import GridPoint
from rankwise.training.settings.recipe import Recipe, load_recipe

if TYPE_CHECKING:
    from rankwise.training.generation_model import GenerationModel

SECTIONS = compare_command.SECTIONS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the table, its tasks, the folder, and whether only to count."""
    parser.add_argument("name", help=f"one of {', '.join(EXPERIMENTS)}")
    parser.add_argument("--tasks", help="only these of its tasks, such as mrpc,rte")
    parser.add_argument("--workers", type=positive, help="runs at once (default: one a core)")
    parser.add_argument(
        "--dry-run", action="store_true", help="say what it takes, and train nothing"
    )
    parser.add_argument(
        "--gpu", choices=tuple(GPUS), default="h100", help="whose hours --dry-run counts"
    )
    add_results(parser)
    parser.epilog = "Any setting of its recipe may follow. The same command resumes."


def run(arguments: argparse.Namespace, overrides: dict[str, Any]) -> int:
    """Compare on each task, ask the benchmarks, and show the table."""
    experiment = find_experiment(arguments.name)
    tasks = _tasks(experiment, arguments.tasks)
    recipes = {task: _load(experiment, task, overrides) for task in tasks}
    if arguments.dry_run:
        return _show_effort(experiment, recipes, arguments.gpu)
    output = arguments.output or Path("runs") / f"reproduce-{arguments.name}"
    code = 0
    for task in tasks:
        say(f"{experiment.source}: {task}")
        of_task = compare_command.arguments_for(
            experiment.recipe,
            output=output / task,
            workers=arguments.workers,
            variant=experiment.variant,
        )
        code |= compare_command.run(of_task, _for_task(overrides, task))
    summaries = {task: read_summary(output / task) for task in tasks}
    answers = _answers(experiment, output, summaries)
    rows = reproduced(experiment, summaries, answers)
    show_table(reproduced_table(experiment.source, rows))
    file = output / "table.md"
    write_text(file, reproduced_text(experiment.source, rows))
    say(f"written: {file}")
    return code


def _tasks(experiment: Experiment, chosen: str | None) -> list[str]:
    known = experiment.tasks or (load_recipe(experiment.recipe).task.name,)
    names = list(known) if chosen is None else [name.strip() for name in chosen.split(",")]
    for name in names:
        if name not in known:
            raise SettingsError(f"--tasks: no task {name!r}; {nearest_names(name, known)}")
    return names


def _for_task(overrides: dict[str, Any], task: str) -> dict[str, Any]:
    return overrides | {"task": {**overrides.get("task", {}), "name": task}}


def _load(experiment: Experiment, task: str, overrides: dict[str, Any]) -> Recipe:
    return load_recipe(experiment.recipe, _for_task(overrides, task), variant=experiment.variant)


def _answers(
    experiment: Experiment, output: Path, summaries: dict[str, Summary]
) -> dict[str, dict[str, float]]:
    """Ask one run of each method, at its chosen rate, the benchmarks of the table."""
    if not experiment.questions:
        return {}
    from rankwise.training.answering import GenerationRequest, answer_benchmark
    from rankwise.training.generation_model import opened_for_generation

    request, answers = GenerationRequest(rows=None), {}
    for task, summary in summaries.items():
        for label, run in _chosen_runs(output / task, summary).items():
            with opened_for_generation(run, {}) as model:
                answers[label] = _asked(model, experiment, request, answer_benchmark)
    return answers


def _asked(
    model: GenerationModel, experiment: Experiment, request: Any, answer: Any
) -> dict[str, float]:
    scores = {}
    for name in experiment.questions:
        result = answer(model, name, request)
        if result.grades is not None:
            scores[name] = result.grades.accuracy
        else:
            say(f"{name}: {', '.join(map(str, result.files))}, to be judged")
    return scores


def _chosen_runs(output: Path, summary: Summary) -> dict[str, Path]:
    """Return the folder of the first run of each method with the settings chosen for it."""
    comparison = Comparison(summary, read_runs(output, summary))
    chosen: dict[str, Path] = {}
    for row in summary.methods:
        if runs := comparison.chosen_runs(row):
            chosen.setdefault(row.label, runs_below(output) / runs[0].run)
    return chosen


def _show_effort(experiment: Experiment, recipes: dict[str, Recipe], gpu: str) -> int:
    table = Table(title=experiment.source)
    headings = ("task", "method", "runs", "steps a run", "GB", f"hours on {gpu}")
    add_columns(table, headings, texts=("task", "method"))
    total = 0.0
    for task, recipe in recipes.items():
        assert recipe.compare is not None
        for method in recipe.compare.chosen_methods:
            effort = _effort(recipe, method, gpu)
            total += effort.seconds
            add_row(
                table,
                task,
                identity_of(method).label,
                str(effort.runs),
                f"{effort.steps:,}",
                f"{effort.state_bytes / 1e9:.2f}",
                f"{effort.seconds / 3600:.2f}",
            )
    show_table(table)
    say(
        f"{total / 3600:,.1f} hours on one {gpu} at {UTILISATION:.0%} of its peak, every text as "
        "long as it may be; memory is that of weights, factors, gradients and moments"
    )
    if experiment.questions:
        say(f"after that it is asked: {', '.join(experiment.questions)}")
    return 0


def _effort(recipe: Recipe, method: ComparedMethod, gpu: str) -> Effort:
    from rankwise.training.initialization import needs_reference
    from rankwise.training.probes.dry_run import count_run

    comparison = recipe.compare
    assert comparison is not None
    point = GridPoint(recipe.training.learning_rate)
    settings = method.run(recipe.run(), at=point, seed=recipe.seed)
    found, training = count_run(settings), settings.training
    runs, _ = runs_of_a_method(comparison, method)
    rows = found.steps * training.batch_size * training.accumulation_steps
    seconds = training_seconds(
        weights=found.weights,
        tokens=rows * tokens_of_row(settings.task),
        gpu=gpu,
        is_full=settings.method.adapter.kind == "full",
        in_bfloat16=training.bf16,
    )
    # A reference that is trained on the task first is one more run of the same length.
    times = 2 if needs_reference(settings.method) else 1
    return Effort(runs, found.steps, found.state_bytes, seconds * runs * times)
