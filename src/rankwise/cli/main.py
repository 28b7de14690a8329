"""The command ``rankwise``: parses, hands over, and turns errors into one message and an exit code.

Exit codes: 0 success; 1 nothing to show for it (no method could be scored, a judge left answers
unrated, a count that is not the paper's) or nobody who reads it, as of ``| head``; 2 a mistake of
the user's, told in one message; 130 stopped by Ctrl-C, 143 by SIGTERM. A traceback means a fault of
ours.

Built on argparse: what it does not know are dotted settings, which pydantic checks; Typer, Click
and their kind have no place for those, and jsonargparse, which has, would check them a second time.
"""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rankwise.cli import completion
from rankwise.cli.commands import COMMANDS, Command, load_command
from rankwise.cli.overrides import split_options
from rankwise.core.disk import complaint_of_disk
from rankwise.core.errors import RankwiseError, nearest_names
from rankwise.core.interrupts import Terminated, raised_sigterm
from rankwise.core.library_noise import silence_libraries
from rankwise.core.outside_text import one_line
from rankwise.core.plugins import load_plugins
from rankwise.training.settings.recipe import is_own_data, recipe_names

_FIRST_STEPS = """\
begin with
  rankwise quickstart                                    the methods on digits, no download
  rankwise compare reviews.csv --task.model MODEL        on data of your own
  rankwise list recipes                                  the papers' experiments

Settings of a recipe are changed by options: --epochs 3 --method.r 8"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if completion.is_asked():
        words = completion.words_typed()
    plugins, words = _named_plugins(words)
    try:
        load_plugins(plugins)
    except RankwiseError as error:
        return _refuse(str(error))
    name = words[0] if words else ""
    # The one command that is named is loaded, to declare its arguments; the others are only listed.
    command = load_command(name) if name in COMMANDS else None
    parser = argparse.ArgumentParser(
        prog="rankwise",
        description="Low-rank fine-tuning that keeps up with full fine-tuning.",
        epilog=_FIRST_STEPS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--plugin",
        action="append",
        metavar="MODULE",
        help="a module of your own that adds adapters, inits, tasks and more; repeatable",
    )
    parser.add_argument("--version", action=_Version, help="show the version and exit")
    own = _add_commands(parser, name, command)
    if completion.is_asked():
        completion.offer(parser, own, command.SECTIONS if command else ())
    if not words:
        parser.print_help(sys.stderr)
        return 2
    if name not in COMMANDS and not name.startswith("-"):
        return _refuse(f"no command {name!r}; {_suggestion(name)}")
    if command is None or own is None:
        parser.parse_args(words)
        raise AssertionError("a command that is none was accepted")
    return _run(command, parser, own, words)


def _suggestion(name: str) -> str:
    """Say what may have been meant by a word that is no command: a recipe or data, or another."""
    model = " --task.model MODEL" if is_own_data(name) else ""
    if not model and name not in recipe_names() and not Path(name).is_file():
        return nearest_names(name, COMMANDS)
    quoted = shlex.quote(name)
    return (
        f"it comes after one: rankwise train {quoted}{model} trains on it, rankwise compare "
        f"{quoted}{model} compares methods"
    )


def _named_plugins(words: list[str]) -> tuple[list[str], list[str]]:
    """Take the plugins off, which come before the command: its arguments may be of their making."""
    named = []
    while len(words) > 1 and words[0] == "--plugin":
        named.append(words[1])
        words = words[2:]
    return named, words


def _run(
    command: Command,
    parser: argparse.ArgumentParser,
    own: argparse.ArgumentParser,
    words: list[str],
) -> int:
    """Run a command; ``own`` is its own part of ``parser``."""
    try:
        # What argparse would take for an argument of ours may be the value of a setting.
        overrides, rest = split_options(
            words[1:], declared=own._option_string_actions, sections=command.SECTIONS
        )
        known = parser.parse_args([words[0], *rest])
        silence_libraries()
        with raised_sigterm():
            code = command.run(known, overrides)
            sys.stdout.flush()
        return code
    except RankwiseError as error:
        return _refuse(str(error))
    except KeyboardInterrupt as error:
        asks = "--resume" in own._option_string_actions and "--resume" not in words
        added = " with --resume" if asks else ""
        print(f"interrupted; rerun the same command{added} to resume", file=sys.stderr)
        return 128 + (signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT)
    except BrokenPipeError:
        if not _is_reader_gone():
            raise
        return 1  # as Rich does, which prints our tables
    except Exception as error:
        complaint = complaint_of_disk(error)
        if complaint is None:
            raise
        return _refuse(complaint)


def _is_reader_gone() -> bool:
    """Say whether it is our output that nobody reads; what is still to be written is dropped."""
    try:
        print(flush=True)
    except BrokenPipeError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())  # or Python complains of the rest when it ends
        os.close(nowhere)
        return True
    return False


def _refuse(message: str) -> int:
    """Print what is wrong, each line of ours indented below the first, and return the exit code."""
    first, *others = (one_line(line, longest=2000) for line in message.splitlines() or [""])
    print("\n  ".join([f"error: {first}", *others]), file=sys.stderr)
    return 2


def _add_commands(
    parser: argparse.ArgumentParser, name: str, command: Command | None
) -> argparse.ArgumentParser | None:
    """Add a parser for each command, and return that of the one that is named."""
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    named = None
    for each, summary in COMMANDS.items():
        subparser = commands.add_parser(each, help=summary, allow_abbrev=False)
        if each == name and command is not None:
            command.add_arguments(subparser)
            named = subparser
    return named


class _Version(argparse.Action):
    """Shows the version; read when asked for, because that is slower than parsing."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str) -> None:
        super().__init__(option_strings, dest, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: Any, **__: Any) -> None:
        import rankwise

        parser.exit(message=f"rankwise {rankwise.__version__}\n")


if __name__ == "__main__":
    sys.exit(main())
