"""``rankwise chat``: a conversation with a run's model, a line a turn; the end of input ends it."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from rankwise.cli.arguments import existing_folder
from rankwise.cli.decoding_options import add_decoding, check_decoding, decoding_of
from rankwise.cli.showing import say
from rankwise.core.outside_text import printable

SECTIONS = ()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the run, and how it writes."""
    add_decoding(parser)


def run(arguments: argparse.Namespace, _overrides: dict[str, Any]) -> int:
    """Answer each line of the input, in the light of those before where the form has turns."""
    check_decoding(arguments)
    existing_folder(arguments.run)
    from rankwise.training.writing import open_writer

    writer, decoding = open_writer(arguments.run), decoding_of(arguments)
    if sys.stdin.isatty():
        kept = "and remembered" if writer.has_turns else "by itself: the model knows no turns"
        say(f"each line is answered {kept}; an empty one begins anew, Ctrl-D ends")
    turns: list[str] = []
    for line in sys.stdin:
        if not line.strip():
            turns = []
            continue
        turns.append(line.strip())
        (answer,) = writer.write([turns], decoding)
        print(printable(answer), flush=True)
        turns = [*turns, answer] if writer.has_turns else []
    return 0
