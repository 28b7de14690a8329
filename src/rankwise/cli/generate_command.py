"""``rankwise generate``: what a run's model writes for a prompt, or for a file of prompts."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from rankwise.cli.arguments import existing_folder, positive
from rankwise.cli.decoding_options import add_decoding, check_decoding, decoding_of
from rankwise.cli.showing import say
from rankwise.core.errors import SettingsError
from rankwise.core.outside_text import printable
from rankwise.core.records import write_text

SECTIONS = ()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the run, its prompts, and where the completions go."""
    add_decoding(parser)
    parser.add_argument("prompt", nargs="?", help="what the model is asked")
    parser.add_argument(
        "--file", help="prompts in the place of one: CSV, JSONL, or a paragraph of a .txt each"
    )
    parser.add_argument("--column", help="that of the prompts (default: guessed)")
    parser.add_argument("--output", type=Path, help="a new .jsonl file (default: printed)")
    parser.add_argument("--batch-size", type=positive, default=8, help="prompts at once")


def run(arguments: argparse.Namespace, _overrides: dict[str, Any]) -> int:
    """Let the model write, and print or keep what it wrote."""
    check_decoding(arguments)
    if (arguments.prompt is None) == (arguments.file is None):
        raise SettingsError("name one prompt, or a file of them by --file")
    if arguments.file is None and arguments.column is not None:
        raise SettingsError("--column is that of a --file")
    if arguments.output is not None and arguments.output.exists():
        raise SettingsError(f"{arguments.output} is there already: choose a new file")
    existing_folder(arguments.run)
    prompts = [arguments.prompt] if arguments.file is None else _read(arguments)
    from rankwise.training.writing import open_writer

    texts = open_writer(arguments.run).write(
        [[prompt] for prompt in prompts], decoding_of(arguments), batch_size=arguments.batch_size
    )
    if arguments.output is None and arguments.file is None:
        print(printable(texts[0]))
        return 0
    lines = [
        json.dumps({"prompt": prompt, "completion": text}, ensure_ascii=False)
        for prompt, text in zip(prompts, texts, strict=True)
    ]
    if arguments.output is None:
        print("\n".join(lines))
        return 0
    write_text(arguments.output, "\n".join(lines) + "\n")
    say(f"written: {arguments.output}, {len(lines)} completions")
    return 0


def _read(arguments: argparse.Namespace) -> list[str]:
    from rankwise.tasks.own.columns import PROMPT_NAMES, check_columns, find_text, named_like
    from rankwise.tasks.own.source import Source, read_source
    from rankwise.tasks.own.task import filled_texts

    place = arguments.file
    rows = read_source(Source(place))["train"]
    column = arguments.column or named_like(rows, PROMPT_NAMES) or find_text(rows, place=place)
    check_columns(rows, [column], place=place)
    return filled_texts(rows[column][:], place=f"{place}, column {column!r}")
