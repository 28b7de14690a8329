"""``rankwise new``: five questions, and a recipe made of the answers."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, NamedTuple

from rankwise.cli.arguments import ALL_SECTIONS
from rankwise.cli.showing import say
from rankwise.core.errors import SettingsError
from rankwise.core.records import write_text
from rankwise.tasks.own.definitions import METRICS
from rankwise.training.settings.layers import laid_over
from rankwise.training.settings.recipe import load_recipe
from rankwise.training.settings.written import write_recipe

SECTIONS = ALL_SECTIONS


class _Question(NamedTuple):
    option: str
    text: str
    setting: tuple[str, str] | None
    default: str | None


_QUESTIONS = (
    _Question("data", "Which data: a file, a folder, or hub:OWNER/NAME?", None, None),
    _Question("model", "Which model: a folder, or a name on the Hub?", ("task", "model"), None),
    _Question("task", f"Which task: {', '.join(METRICS)}?", ("task", "name"), "as the data look"),
    _Question("metric", "Which metric to compare by?", ("task", "metrics"), "the task's"),
    _Question(
        "methods",
        "Which methods, with commas between?",
        ("compare", "methods"),
        "LoRA and our four",
    ),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare an option an answer, and the file."""
    for each in _QUESTIONS:
        kept = "asked" if each.default is None else f"asked; without a terminal {each.default}"
        parser.add_argument(f"--{each.option}", help=f"{each.text} (default: {kept})")
    parser.add_argument(
        "--output", type=Path, default=Path("recipe.yaml"), help="a new file (default: recipe.yaml)"
    )
    parser.epilog = "Any setting of the recipe may follow: --method.r 8 --training.epochs 3"


def run(arguments: argparse.Namespace, overrides: dict[str, Any]) -> int:
    """Ask what was not said, and write the recipe."""
    if arguments.output.exists():
        raise SettingsError(f"{arguments.output} is there already: name another by --output")
    answers = {each.option: _answer(each, arguments) for each in _QUESTIONS}
    settings: dict[str, Any] = {}
    for each in _QUESTIONS:
        if each.setting is not None and answers[each.option] is not None:
            section, name = each.setting
            settings.setdefault(section, {})[name] = _value(answers[each.option], name)
    recipe = load_recipe(str(answers["data"]), laid_over(settings, overrides))
    from rankwise.training.build import build_task

    build_task(recipe.run())
    heading = "# Made by rankwise new."
    write_text(arguments.output, f"{heading}\n{write_recipe(recipe)}")
    say(
        f"written: {arguments.output}, {recipe.task.name}",
        f"next: rankwise compare {arguments.output} --plan says what it will take",
    )
    return 0


def _value(answer: str | None, name: str) -> Any:
    has_several = answer is not None and name in ("metrics", "methods")
    return [each.strip() for each in answer.split(",")] if answer and has_several else answer


def _answer(question: _Question, arguments: argparse.Namespace) -> str | None:
    """Return what was said as an option, or is said now; None for the default.

    Raises:
        SettingsError: There is nobody to ask, and no default.
    """
    said = getattr(arguments, question.option)
    if said is not None:
        return said
    if not sys.stdin.isatty():
        if question.default is None:
            raise SettingsError(
                f"{question.text} There is no terminal to ask at: say it by --{question.option}"
            )
        return None
    default = "" if question.default is None else f" [{question.default}]"
    while True:
        print(f"{question.text}{default} ", end="", flush=True)
        line = sys.stdin.readline()
        if not line:
            raise SettingsError("the questions were not answered: nothing is written")
        if line.strip() or question.default is not None:
            return line.strip() or None
