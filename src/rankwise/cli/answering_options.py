"""The options of ``rankwise evaluate``'s three forms; apart, so that parsing loads no model.

A form has options of its own: those of another are refused and not ignored, so none has a default
here.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from rankwise.core.errors import SettingsError

ROWS, BATCH_SIZE, SPLIT = 200, 16, "validation"

_OF_SPLITS = ("task", "split")
_OF_BOTH = ("rows", "full", "batch_size")
_OF_QUESTIONS = (
    "protocol",
    "engine",
    "max_new_tokens",
    "questions_seed",
    "judge",
    "judge_model",
)
_OF_HARNESS = ("include_path",)
# What may be said of the task of a causal model: none of it cuts rows anew.
_TASK_SETTINGS = ("model", "dtype", "data_root")


def add_questions(parser: argparse.ArgumentParser) -> None:
    """Add the options that ask a causal model."""
    group = parser.add_argument_group("questions to a causal language model")
    group.add_argument("--tasks", help="evaluation sets, such as gsm8k,boolq")
    count = group.add_mutually_exclusive_group()
    count.add_argument("--rows", type=int, help=f"questions of each (default: {ROWS})")
    count.add_argument("--full", action="store_true", help="all questions of each")
    group.add_argument("--batch-size", type=int, help=f"prompts at once (default: {BATCH_SIZE})")
    own = parser.add_argument_group("asked as the papers do, without --harness")
    own.add_argument(
        "--protocol",
        choices=("greedy", "sampled", "likelihood"),
        help="how answers come about (default: greedy); likelihood weighs the options given",
    )
    own.add_argument(
        "--engine",
        choices=("transformers", "vllm"),
        help="what generates (default: transformers); vllm takes the adapter as a plain LoRA",
    )
    own.add_argument("--max-new-tokens", type=int, help="the longest answer (default: the set's)")
    own.add_argument("--questions-seed", type=int, help="draws the questions (default: 0)")
    own.add_argument("--judge", metavar="URL", help="an OpenAI-compatible endpoint for mt-bench")
    own.add_argument("--judge-model", metavar="NAME", help="its model")
    harness = parser.add_argument_group("a second opinion")
    harness.add_argument(
        "--harness", choices=("lm_eval",), help="ask by EleutherAI's lm-evaluation-harness instead"
    )
    harness.add_argument(
        "--include-path", type=Path, metavar="FOLDER", help="YAML files of tasks of your own"
    )


def check_form(arguments: argparse.Namespace) -> None:
    """Refuse options that do not go together.

    Raises:
        SettingsError: One has no effect beside the others, or a number is below 1.
    """
    if arguments.harness is not None and arguments.tasks is None:
        raise SettingsError("--harness needs --tasks NAME,NAME: what it is to ask")
    foreign = {
        "--harness": (_OF_SPLITS + _OF_QUESTIONS, arguments.harness is not None),
        "--tasks alone": (_OF_SPLITS + _OF_HARNESS, arguments.harness is None),
    }
    if arguments.tasks is None:
        foreign = {"a split: add --tasks": (_OF_BOTH + _OF_QUESTIONS + _OF_HARNESS, True)}
    for form, (names, applies) in foreign.items():
        for name in names if applies else ():
            if getattr(arguments, name) not in (None, False):
                raise SettingsError(f"{_option(name)} does not go with {form}")
    for name in ("rows", "batch_size", "max_new_tokens"):
        if (number := getattr(arguments, name)) is not None and number < 1:
            raise SettingsError(f"{_option(name)} must be at least 1, got {number}")


def task_options(overrides: dict[str, Any], form: str) -> dict[str, Any]:
    """Return the settings of the task among ``overrides``.

    Raises:
        SettingsError: There are others than ``form`` takes.
    """
    options = overrides.get("task", {})
    is_plain = isinstance(options, dict) and not options.keys() - {*_TASK_SETTINGS}
    if overrides.keys() - {"task"} or not is_plain:
        known = ", ".join(f"--task.{name}" for name in _TASK_SETTINGS)
        raise SettingsError(f"{form} takes the settings {known} only, got {overrides}")
    return options


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
