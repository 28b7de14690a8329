"""Every command of every page is one that the program takes, with settings that there are."""

from __future__ import annotations

import argparse

import pytest

from rankwise.cli.commands import load_command
from rankwise.cli.main import main
from rankwise.cli.overrides import split_options
from rankwise.training.settings.recipe import load_recipe, recipe_names
from tests.docs.pages import PAGES, commands, name_of

COMMANDS = [(name_of(page), words) for page in PAGES for words in commands(page)]
# These only print, and take no time.
PRINTING = ("list", "help", "show", "schema")


def test_there_are_commands():
    assert len(COMMANDS) > 60


@pytest.mark.parametrize(("page", "words"), COMMANDS)
def test_a_command_is_taken(page, words):
    if words[0] == "--plugin":
        words = words[2:]
    name, *words = words
    command = load_command(name)
    parser = argparse.ArgumentParser(exit_on_error=False)
    command.add_arguments(parser)
    overrides, rest = split_options(
        words, declared=parser._option_string_actions, sections=command.SECTIONS
    )
    recipe = getattr(parser.parse_args(rest), "recipe", None)
    if recipe in recipe_names():
        load_recipe(recipe, overrides)


# Of those that name a file of the reader's own, what can be run is run by another test.
PRINTED = [each for _, each in COMMANDS if each[0] in PRINTING and "reviews.csv" not in each]


@pytest.mark.parametrize("words", PRINTED)
def test_what_only_prints_runs(words, capsys):
    assert main(words) == 0
    assert capsys.readouterr().out
