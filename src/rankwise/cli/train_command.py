"""``rankwise train``: one run."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from rankwise.cli.arguments import (
    RUN_SECTIONS,
    add_recipe,
    add_results,
    existing_folder,
    no_folder_if_refused,
    results_folder,
)
from rankwise.cli.own_data import check_own_data, keep_recipe, tell_guesses
from rankwise.cli.showing import plain_console, say
from rankwise.core.errors import SettingsError
from rankwise.core.locks import check_is_free
from rankwise.tasks.duplicates import told_duplicates
from rankwise.training.folder import RunFolder, runs_below
from rankwise.training.settings.layers import laid_over
from rankwise.training.settings.own_data import OwnDataSettings
from rankwise.training.settings.recipe import load_recipe
from rankwise.training.settings.run import RunSettings

SECTIONS = RUN_SECTIONS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the recipe, the folder, and whether to resume or only to count."""
    add_recipe(parser)
    add_results(parser)
    parser.add_argument("--resume", action="store_true", help="resume an interrupted run")
    parser.add_argument(
        "--from",
        dest="begin",
        type=Path,
        metavar="ADAPTER",
        help="go on from a saved adapter, a run's or any plain LoRA; it decides the method",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="build and count everything without data, weights or a network, and train nothing",
    )


def run(arguments: argparse.Namespace, overrides: dict[str, Any]) -> int:
    """Train the run that the recipe describes, read test once, and say where everything is."""
    recipe = load_recipe(arguments.recipe, _with_start(overrides, arguments.begin))
    settings, output = recipe.run(), results_folder(arguments)
    # Imported when no mistake is left that is told without torch.
    from rankwise.training.processes import is_main_process

    # The other processes of a launcher say nothing, and find the folder taken by their main one.
    is_main = is_main_process()
    if is_main:
        tell_guesses(recipe, arguments, overrides)
    if arguments.dry_run:
        return _show_dry_run(settings)
    if is_main:
        check_is_free(RunFolder.below(output, settings.name).path)
    check_own_data(settings, is_told=is_main)
    with no_folder_if_refused(output):
        keep_recipe(recipe, arguments, output)
        return _train(settings, output, resume=arguments.resume)


def _with_start(overrides: dict[str, Any], begin: Path | None) -> dict[str, Any]:
    """Lay the method of a saved adapter below what was said.

    Raises:
        SettingsError: Another method was named, or no run goes on from such an adapter.
    """
    if begin is None:
        return overrides
    from rankwise.training.continuing import continued_method

    existing_folder(begin)
    method, change = continued_method(begin), overrides.get("method", {})
    if not isinstance(change, dict) or change.get("name", method["name"]) != method["name"]:
        raise SettingsError(
            f"--from {begin} goes on with method {method['name']!r}: leave out --method.name"
        )
    return overrides | {"method": laid_over(method, change)}


def _train(settings: RunSettings, output: Path, *, resume: bool) -> int:
    from rankwise.training.finished import score_test
    from rankwise.training.processes import is_main_process
    from rankwise.training.run import take_part, train_run

    if not is_main_process():
        take_part(settings, output, resume=resume)
        return 0
    has_bar = plain_console().is_terminal and settings.training.loop == "trainer"
    record = train_run(
        settings, output, resume=resume, show_progress=has_bar, say=None if has_bar else say
    )
    test = score_test(settings, output)
    head = f" beside a head of {count:,}" if (count := record.head_parameters) else ""
    folder = runs_below(output) / record.run
    say(
        f"{record.run}: {record.trainable_parameters:,} trainable parameters{head}, "
        f"{record.metric} {record.score_validation:.3f} on validation, "
        f"{test.score_test:.3f} on test, {record.seconds.total:.1f} s",
        f"written: {folder}",
        *([] if isinstance(settings.task, OwnDataSettings) else told_duplicates(record.data)),
    )
    if settings.method.rank is not None:
        say(f"next: rankwise export {folder} --output ADAPTER makes a plain LoRA of it")
    if settings.task.name in ("sft", "causal-lm"):
        say(f"or ask it: rankwise generate {folder} PROMPT, rankwise chat {folder}")
    return 0


def _show_dry_run(settings: RunSettings) -> int:
    """Say what the run would be; it fails where the count is not the published one."""
    from rankwise.training.probes.dry_run import dry_run

    found = dry_run(settings)
    adapter, head = found.parameters
    published = "" if found.published is None else f" (published: {found.published})"
    lines = {
        "run": settings.name,
        "adapter": f"{adapter:,} trainable parameters{published}",
        "head": f"{head:,} trainable parameters",
        "model": f"{found.weights:,} parameters",
        "steps": f"{found.steps:,}",
        "memory": f"{found.state_bytes / 1e9:.2f} GB for weights, factors, gradients and moments; "
        "activations come on top",
    }
    for name, text in lines.items():
        print(f"{name:8} {text}")
    if found.agrees:
        return 0
    say(
        "the adapter does not train what its paper says: check method.r and "
        "method.adapter.target_modules, or clear --method.published_parameters null"
    )
    return 1
