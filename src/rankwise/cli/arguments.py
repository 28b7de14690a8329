"""The arguments that several commands have in common."""

from __future__ import annotations

import argparse
import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from rankwise.core.errors import AdapterError, DataError, ModelError, SettingsError

# The sections of a recipe: those that make a run, and all.
RUN_SECTIONS = ("task", "method", "training", "seed", "raclora")
ALL_SECTIONS = (*RUN_SECTIONS, "compare", "federated", "plugins")


def add_recipe(parser: argparse.ArgumentParser) -> None:
    """Declare the recipe, and say that its settings may follow."""
    parser.add_argument(
        "recipe",
        help="a shipped recipe, a YAML file, or data of your own: a file, a folder, hub:OWNER/NAME",
    )
    parser.epilog = "Any setting of the recipe may follow: --method.r 8 --training.epochs 3"


def add_variants(parser: argparse.ArgumentParser) -> None:
    """Declare the forms that a recipe may have beside its own."""
    forms = parser.add_mutually_exclusive_group()
    for name, text in (
        ("quick", "the recipe's short form"),
        ("full", "its published schedule"),
        ("controls", "its methods with their controls"),
    ):
        forms.add_argument(f"--{name}", dest="variant", action="store_const", const=name, help=text)


def add_results(parser: argparse._ActionsContainer) -> None:
    """Declare the folder for results."""
    parser.add_argument("--output", type=Path, help="folder for results (default: runs/RECIPE)")


def results_folder(arguments: argparse.Namespace) -> Path:
    """Return the folder for results: the one that was named, or that of the recipe's name.

    Raises:
        SettingsError: It is a file.
    """
    name = Path(arguments.recipe.removeprefix("hub:")).name
    folder = arguments.output or Path("runs") / (name.partition(".")[0] or name)
    if folder.is_file():
        raise SettingsError(f"the output {folder} is a file: name a folder")
    return folder


@contextlib.contextmanager
def no_folder_if_refused(folder: Path) -> Iterator[None]:
    """Remove what a refused command has made of ``folder``, unless it was there before.

    A base model that was made on the way goes too, and so does the recipe: the next run makes
    them again.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        yield
    except (SettingsError, DataError, ModelError):
        files = (path for path in folder.rglob("*") if path.is_file())
        kept = (folder / "base", folder / "recipe.yaml")
        if made and all(any(path.is_relative_to(each) for each in kept) for path in files):
            shutil.rmtree(made[0], ignore_errors=True)
            for above in made[1:]:
                with contextlib.suppress(OSError):  # somebody else has something there by now
                    above.rmdir()
        raise


def existing_folder(folder: Path) -> None:
    """Check that a run or an adapter can be there at all, before what reads it is imported.

    Raises:
        AdapterError: There is no such folder.
    """
    if not folder.is_dir():
        raise AdapterError(f"no folder {folder}: name that of a run or of an adapter")


def positive(text: str) -> int:
    """Read a number of at least 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number
