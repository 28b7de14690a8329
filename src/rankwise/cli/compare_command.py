"""``rankwise compare``: the whole comparison, with a table, a summary and a page at the end."""

from __future__ import annotations

import argparse
import itertools
import shlex
from collections.abc import Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rankwise.cli.arguments import (
    add_recipe,
    add_results,
    add_variants,
    no_folder_if_refused,
    positive,
    results_folder,
)
from rankwise.cli.overrides import option_words, parse_variations
from rankwise.cli.own_data import check_own_data, keep_recipe, tell_guesses
from rankwise.cli.planning import add_planning, planned, with_budget
from rankwise.cli.showing import plain_console, say, show_summary
from rankwise.comparison.ablation import varied_methods
from rankwise.comparison.folder import (
    check_runs_are_there,
    report_file,
    summary_file,
    write_summary,
)
from rankwise.comparison.grid import comparison_of
from rankwise.comparison.plan import counted_runs
from rankwise.comparison.report.comparison import Comparison
from rankwise.comparison.report.page import write_report
from rankwise.core.errors import SettingsError
from rankwise.core.locks import sole_use
from rankwise.pages.frame import missing_extra
from rankwise.training.folder import runs_below
from rankwise.training.settings.recipe import Recipe, load_recipe

if TYPE_CHECKING:
    from rankwise.comparison.engines.protocol import Engine

SECTIONS = ("task", "method", "training", "compare", "raclora")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the recipe and its form, the folder, and where the runs are made."""
    add_recipe(parser)
    add_results(parser)
    add_variants(parser)
    parser.add_argument(
        "--vary",
        action="append",
        default=[],
        metavar="SETTING=VALUE,VALUE",
        help="compare the recipe's own method under each value, instead of its methods; repeatable",
    )
    parser.add_argument(
        "--seeds",
        type=_seeds,
        metavar="N",
        help="so many seeds: the recipe's, and those that follow; or a list, such as 0,1,2",
    )
    parser.add_argument(
        "--workers", type=positive, help="runs at once (default: one a GPU, or else one a core)"
    )
    parser.add_argument(
        "--workers-per-gpu", type=positive, help="how many runs share a GPU (default: 1)"
    )
    parser.add_argument(
        "--engine",
        choices=("local", "ray"),
        default="local",
        help="processes here, or a Ray cluster",
    )
    parser.add_argument("--address", help="the head of the Ray cluster (default: found by Ray)")
    add_planning(parser)


def arguments_for(
    recipe: str,
    *,
    output: Path | None,
    workers: int | None,
    variant: str | None = None,
) -> argparse.Namespace:
    """Return what a command line without further options would give, for commands made of this."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    arguments = parser.parse_args([recipe])
    arguments.output, arguments.workers, arguments.variant = output, workers, variant
    return arguments


def run(arguments: argparse.Namespace, overrides: dict[str, Any]) -> int:
    """Sweep, choose on validation, read test, and write ``summary.json`` and ``report.html``."""
    output = results_folder(arguments)
    if arguments.plan:
        _prepared(arguments, _with_seeds(arguments, overrides))
        return 0
    # First of all: nobody is to wait for data and models, and then be told to wait for others.
    with no_folder_if_refused(output), sole_use(output):
        overrides = _with_seeds(arguments, overrides)
        recipe = _prepared(arguments, overrides)
        say(counted_runs(comparison_of(recipe)))
        if missing := missing_extra("report"):
            say(f"no page will be written: {missing}")
        keep_recipe(recipe, arguments, output)
        comparison = _compare(recipe, output, arguments, overrides)
        write_summary(output, comparison.summary)
        if not missing:
            write_report(comparison, report_file(output))
    summary = comparison.summary
    show_summary(summary, summary_file(output), *([] if missing else [report_file(output)]))
    if missing:
        say(f"for the page: {missing}, then rankwise report {output}")
    if recipe.training.report_to:
        from rankwise.comparison.tracking import log_summary

        say(*log_summary(summary, output, recipe.training.report_to))
    return 0 if any(row.is_scored for row in summary.methods) else 1


def _prepared(arguments: argparse.Namespace, overrides: dict[str, Any]) -> Recipe:
    """Return what is to be compared: data are read, ranks chosen, hours kept where they are asked.

    ``--plan`` is answered on the way.

    Raises:
        RankwiseError: Settings, data or a model are wrong.
    """
    if arguments.address is not None and arguments.engine != "ray":
        raise SettingsError(f"--address {arguments.address} needs --engine ray")
    recipe = _recipe(arguments, overrides)
    comparison_of(recipe)
    tell_guesses(recipe, arguments, overrides)
    check_own_data(recipe.run())
    recipe = with_budget(recipe, arguments)
    if arguments.plan or arguments.hours is not None:
        recipe = planned(recipe, arguments, engine=partial(_engine, arguments))
    return recipe


def _compare(
    recipe: Recipe, output: Path, arguments: argparse.Namespace, overrides: dict[str, Any]
) -> Comparison:
    """Return the summary of the comparison, and the records of its runs."""
    from rankwise.comparison.analysis.summary import summarise
    from rankwise.comparison.sweep import measures_retention, read_retention, read_test, sweep

    # Absolute, because a worker on another machine stands in a folder of its own.
    absolute = output.resolve()
    from rankwise.cli.progress import ProgressWatcher

    with _engine(arguments, output) as engine, ProgressWatcher(plain_console()) as watcher:
        has_retention = measures_retention(recipe)
        sweeps = sweep(recipe, absolute, engine=engine, watcher=watcher)
        tests = read_test(sweeps, absolute, engine=engine)
        retained = read_retention(sweeps, absolute, engine=engine) if has_retention else {}
    records = [record for method in sweeps for record in method.records]
    check_runs_are_there(absolute, records)
    summary = summarise(
        recipe,
        sweeps,
        tests,
        retained=retained,
        command=_command(arguments, output, overrides),
        varied=list(parse_variations(arguments.vary)),
    )
    return Comparison(summary, records)


def _recipe(arguments: argparse.Namespace, overrides: dict[str, Any]) -> Recipe:
    """Load the recipe; with ``--vary`` its methods are its own one under each of the values."""
    recipe = load_recipe(arguments.recipe, overrides, variant=arguments.variant)
    if not arguments.vary:
        _check_method(recipe, overrides)
        return recipe
    methods = varied_methods(recipe.method.name, parse_variations(arguments.vary))
    rates = [recipe.training.learning_rate]
    comparison = ({} if recipe.compare else {"learning_rates": rates, "widenings": 0}) | (
        overrides.get("compare", {}) | {"methods": methods, "baseline": methods[0]["label"]}
    )
    varied = overrides | {"compare": comparison | {"budgets": None}}
    return load_recipe(arguments.recipe, varied, variant=arguments.variant)


def _seeds(text: str) -> int | list[int]:
    """Read ``--seeds``: how many, or which."""
    try:
        found = [int(word) for word in text.strip("[]").split(",")]
    except ValueError:
        found = []
    if not found or (len(found) == 1 and "[" not in text and found[0] < 1):
        raise argparse.ArgumentTypeError(
            f"takes how many seeds, 1 or more, or a list of them such as 0,1,2, got {text!r}"
        )
    return found[0] if len(found) == 1 and "[" not in text else found


def _with_seeds(arguments: argparse.Namespace, overrides: dict[str, Any]) -> dict[str, Any]:
    """Write ``--seeds`` as the setting that it stands for.

    Raises:
        SettingsError: The setting was given as well.
    """
    seeds, comparison = arguments.seeds, overrides.get("compare", {})
    if seeds is None:
        return overrides
    if "seeds" in comparison:
        raise SettingsError("--seeds and --compare.seeds are the same setting: give one of them")
    if isinstance(seeds, int):
        recipe = load_recipe(arguments.recipe, overrides, variant=arguments.variant)
        known = list(recipe.compare.seeds) if recipe.compare else [0]
        following = itertools.count(max(known) + 1)
        seeds = [*known, *itertools.islice(following, max(seeds - len(known), 0))][:seeds]
    return overrides | {"compare": comparison | {"seeds": seeds}}


def _check_method(recipe: Recipe, overrides: dict[str, Any]) -> None:
    """Refuse settings of a method that none of those compared would take over.

    Raises:
        SettingsError: The recipe's own method was named, or is not among those compared.
    """
    if "method" not in overrides or recipe.compare is None:
        return
    change = overrides["method"]
    is_named = not isinstance(change, dict) or "name" in change
    compared = {method.name for method in recipe.compare.chosen_methods}
    is_lost = is_named or recipe.method.name not in compared
    if is_lost or not _is_taken_over(change, recipe):
        raise SettingsError(
            f"method is the recipe's own method, here {recipe.method.name!r}; what is compared is "
            "compare.methods: name them, as in --compare.methods lora,lora-sb, or compare one "
            "method under several values, as in --vary method.r=4,8"
        )


def _is_taken_over(change: dict[str, Any], recipe: Recipe) -> bool:
    """Say whether each setting of the own method is that of an entry of the same name too."""
    own = recipe.method.model_dump(mode="json")
    entries = [
        method.model_dump(mode="json")
        for method in comparison_of(recipe).chosen_methods
        if method.name == recipe.method.name
    ]
    return all(
        any(_value_at(entry, path) == _value_at(own, path) for entry in entries)
        for path in _paths(change)
    )


def _paths(tree: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    for key, value in tree.items():
        inner = _paths(value) if isinstance(value, dict) and value else [()]
        yield from ((key, *path) for path in inner)


def _value_at(tree: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        tree = tree.get(key) if isinstance(tree, dict) else None
    return tree


def _engine(arguments: argparse.Namespace, output: Path) -> AbstractContextManager[Engine]:
    if arguments.engine == "ray":
        from rankwise.comparison.engines.ray import RayEngine

        return RayEngine(
            output,
            address=arguments.address,
            workers=arguments.workers,
            workers_per_gpu=arguments.workers_per_gpu,
        )
    from rankwise.comparison.engines import devices as gpus
    from rankwise.comparison.engines.local import LocalEngine
    from rankwise.comparison.sweep import load_training

    per_gpu, visible = arguments.workers_per_gpu, gpus.visible_devices()
    devices = gpus.devices_of_workers(arguments.workers, per_gpu, devices=visible)
    if per_gpu is not None and per_gpu > 1:
        gpus.check_memory(output, per_gpu, total=gpus.gpu_memory())
    on = f" on {len(visible)} GPU{'s' if len(visible) > 1 else ''}" if visible else ""
    say(f"starting {len(devices)} worker process{'es' if len(devices) > 1 else ''}{on}")
    engine = LocalEngine(devices=devices)
    if not runs_below(output).exists():  # Of a comparison that was begun, nothing may be left.
        engine.start(load_training)
    return engine


def _command(arguments: argparse.Namespace, output: Path, overrides: dict[str, Any]) -> str:
    words = ["rankwise", "compare", arguments.recipe, "--output", str(output)]
    words += [f"--{arguments.variant}"] if arguments.variant else []
    words += [word for variation in arguments.vary for word in ("--vary", variation)]
    for name in ("budget", "hours"):
        if (value := getattr(arguments, name)) is not None:
            words += [f"--{name}", f"{value:g}"]
    return shlex.join(words + option_words(overrides))
