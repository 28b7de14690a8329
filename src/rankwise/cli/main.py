"""The command ``rankwise``: parses, hands over, and turns errors into one message and an exit code.

Exit codes: 0 success; 1 a comparison in which no method could be scored; 2 a mistake of the user's,
told in one message; 130 stopped by Ctrl-C. A traceback means a fault of ours.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from rankwise.cli.answering_options import add_questions
from rankwise.cli.overrides import parse_overrides
from rankwise.core.errors import RankwiseError, SettingsError
from rankwise.core.library_noise import ignore_known_warnings

_WITH_SETTINGS = ("train", "init", "compare", "doctor", "evaluate", "federate")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands; what it does not know is a dotted setting."""
    parser = argparse.ArgumentParser(
        prog="rankwise",
        description="Low-rank fine-tuning that keeps up with full fine-tuning.",
        epilog="Settings of a recipe are changed by dotted options: --training.epochs 3",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_runs(commands)
    _add_federate(commands)
    _add_results_of_runs(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    known, rest = build_parser().parse_known_args(arguments)
    if known.command in ("train", "compare", "federate") and known.output is None:
        known.output = Path("runs") / Path(known.recipe).stem
    try:
        overrides = parse_overrides(rest)
        if overrides and known.command not in _WITH_SETTINGS:
            raise SettingsError(
                f"`rankwise {known.command}` takes no settings, got {' '.join(rest)}"
            )
        if "federated" in overrides and known.command != "federate":
            raise SettingsError(
                f"`rankwise {known.command}` trains in one place and takes no federated settings: "
                "they are for `rankwise federate`"
            )
        if "output" in known and known.output.is_file():
            raise SettingsError(f"the output {known.output} is a file: name a folder")
        ignore_known_warnings()
        # A command loads what it needs when it is used: `list` does not wait for the Trainer.
        command = importlib.import_module(f"rankwise.cli.{known.command}_command")
        return command.run(known, overrides)
    except RankwiseError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on where it stood", file=sys.stderr)
        return 130


def _add_runs(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    train = commands.add_parser(
        "train", help="one run: initialise, train, evaluate, save, record", allow_abbrev=False
    )
    _add_recipe(train)
    _add_results(train)
    train.add_argument("--resume", action="store_true", help="go on with an interrupted run")
    train.add_argument(
        "--dry-run",
        action="store_true",
        help="build and count everything without data, weights or a network, and train nothing",
    )

    init = commands.add_parser(
        "init", help="the initialization alone: an adapter for any trainer", allow_abbrev=False
    )
    _add_recipe(init)
    init.add_argument("--output", type=Path, required=True, help="a new directory")

    doctor = commands.add_parser(
        "doctor", help="before a long run: one batch, one step, warnings", allow_abbrev=False
    )
    _add_recipe(doctor)
    doctor.add_argument("--layers", action="store_true", help="also by layer")
    doctor.add_argument("--json", action="store_true", help="JSON instead of a table")

    compare = commands.add_parser(
        "compare", help="methods × learning rates × seeds on one task", allow_abbrev=False
    )
    _add_recipe(compare)
    _add_results(compare)
    form = compare.add_mutually_exclusive_group()
    form.add_argument(
        "--quick",
        dest="variant",
        action="store_const",
        const="quick",
        help="the recipe's short form",
    )
    form.add_argument(
        "--full", dest="variant", action="store_const", const="full", help="its published schedule"
    )
    compare.add_argument(
        "--vary",
        action="append",
        default=[],
        metavar="SETTING=VALUE,VALUE",
        help="compare the recipe's own method under each value, instead of its methods; repeatable",
    )
    compare.add_argument("--workers", type=_positive, help="runs at once (default: one a core)")
    compare.add_argument(
        "--engine",
        choices=("local", "ray"),
        default="local",
        help="processes here, or a Ray cluster",
    )
    compare.add_argument("--address", help="the head of the Ray cluster (default: found by Ray)")


def _add_federate(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    federate = commands.add_parser(
        "federate", help="the recipe's methods over several clients, on Flower", allow_abbrev=False
    )
    _add_recipe(federate)
    federate.epilog = f"{federate.epilog} --federated.clients 8 --federated.rounds 20"
    place = federate.add_mutually_exclusive_group()
    _add_results(place)
    federate.add_argument("--resume", action="store_true", help="go on with what was interrupted")
    federate.add_argument(
        "--workers", type=_positive, help="clients that train at once (default: one a core)"
    )
    place.add_argument(
        "--app", type=Path, help="simulate nothing: write a Flower app a method to this new folder"
    )


def _add_results_of_runs(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    evaluate = commands.add_parser(
        "evaluate", help="score a run or an adapter on a split of a task", allow_abbrev=False
    )
    evaluate.add_argument(
        "run", type=Path, help="the folder of a run, OUTPUT/runs/NAME, or an adapter directory"
    )
    evaluate.add_argument("--task", help="such as glue/mrpc (default: the run's own)")
    evaluate.add_argument(
        "--split", choices=("train", "validation", "test"), help="(default: validation)"
    )
    add_questions(evaluate)

    export = commands.add_parser(
        "export", help="write a run as a plain LoRA or with merged weights", allow_abbrev=False
    )
    export.add_argument(
        "run", type=Path, help="the folder of a run, or one with the ledger of an unfinished chain"
    )
    export.add_argument("--target", choices=("lora", "merged", "gguf-ready"), default="lora")
    export.add_argument("--rank", type=_positive, help="compress the change to this rank")
    export.add_argument("--output", type=Path, required=True, help="a new directory")

    report = commands.add_parser(
        "report", help="rebuild report.html from the records of a comparison", allow_abbrev=False
    )
    report.add_argument("output", type=Path, help="the folder that `rankwise compare` wrote")
    report.add_argument(
        "others",
        type=Path,
        nargs="*",
        help="those of other tasks: prints means over tasks and groups instead",
    )

    listing = commands.add_parser("list", help="what there is to choose from", allow_abbrev=False)
    listing.add_argument("what", choices=("methods", "tasks", "recipes"))


def _add_recipe(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", help="the name of a shipped recipe, or a YAML file")
    parser.epilog = "Any setting of the recipe may follow: --method.r 8 --training.epochs 3"


def _add_results(parser: argparse._ActionsContainer) -> None:
    parser.add_argument("--output", type=Path, help="folder for results (default: runs/RECIPE)")


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number


if __name__ == "__main__":
    sys.exit(main())
