"""``rankwise push``: a run, or what was exported of it, with its card on the Hub."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from rankwise.cli.arguments import existing_folder
from rankwise.cli.showing import say
from rankwise.core.errors import SettingsError

SECTIONS = ()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the folder, the repository, and the form in which a run leaves."""
    parser.add_argument(
        "run", type=Path, help="the folder of a run, which is exported, or of an export"
    )
    parser.add_argument("repo", help="a repository of the Hub, OWNER/NAME; made if there is none")
    parser.add_argument(
        "--target", choices=("lora", "merged"), help="how a run is exported (default: lora)"
    )
    parser.add_argument(
        "--private", action="store_true", help="a repository that is made is private"
    )


def run(arguments: argparse.Namespace, _overrides: dict[str, Any]) -> int:
    """Export a run, upload the folder, and say where it is."""
    existing_folder(arguments.run)
    is_run = (arguments.run / "record.json").is_file()
    if not is_run and arguments.target is not None:
        raise SettingsError(f"--target is for a run, and {arguments.run} holds none")
    from rankwise.export.hub import check_login, push_folder

    check_login()
    if not is_run:
        say(f"written: {push_folder(arguments.run, arguments.repo, is_private=arguments.private)}")
        return 0
    from rankwise.training.publishing import publish_lora, publish_merged

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "export"
        if arguments.target == "merged":
            publish_merged(arguments.run, folder)
        else:
            publish_lora(arguments.run, folder)
        say(f"written: {push_folder(folder, arguments.repo, is_private=arguments.private)}")
    return 0
