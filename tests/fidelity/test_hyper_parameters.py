"""docs/fidelity.md says of every hyper-parameter what was published and what the recipes have.

The published values are in ``published.yaml``; the recipes' are read from the recipes that ship. So
neither a recipe nor the document can drift from the other.
"""

from __future__ import annotations

import argparse
import re
import shlex
from pathlib import Path

import pytest
import yaml

from rankwise.cli.commands import load_command
from rankwise.cli.overrides import parse_variations, split_options
from rankwise.comparison.experiments import find_experiment
from rankwise.training.settings.recipe import load_recipe, recipe_names
from tests.fidelity.recipes import plain, read_data, value_of

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "fidelity.md").read_text(encoding="utf-8")
DATA = read_data((Path(__file__).parent / "published.yaml").read_text(encoding="utf-8"))
RECIPES = ROOT / "src" / "rankwise" / "recipes"
# Recipes that are no experiment of a paper.
OURS = {
    "compositions",
    "digits",
    "digits-federated",
    "glue-tutorial",
    "generation-tutorial",
    "quickstart",
}
# What names, groups and chooses runs, and does not make them what they are.
_NO_SETTING = re.compile(
    r"task\.name|.*\b(name|label|budget|published|published_parameters)|"
    r"compare\.(widenings|baseline|sweep_seeds|budgets|methods)"
)


def table_of(recipe):
    """The rows of a recipe's table: setting, published, here, fidelity."""
    section = DOCUMENT.partition(f"### {recipe}\n")[2].partition("\n### ")[0].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows[1:]]


ROWS = [(recipe, *row) for recipe in DATA for row in table_of(recipe)]


def test_every_recipe_of_a_paper_has_a_table():
    assert set(DATA) == set(recipe_names()) - OURS


@pytest.mark.parametrize("recipe", DATA)
def test_the_table_has_every_published_setting_and_no_other(recipe):
    assert [row[0] for row in table_of(recipe)] == list(DATA[recipe]["settings"])


@pytest.mark.parametrize(
    ("recipe", "setting", "published", "here", "fidelity"), ROWS, ids=lambda word: str(word)[:40]
)
def test_a_row_says_what_was_published_what_is_here_and_how_the_two_stand(
    recipe, setting, published, here, fidelity
):
    value, ours = DATA[recipe]["settings"][setting], value_of(recipe, setting)
    assert published == ("–" if value is None else plain(value))
    assert here == plain(ours)
    if value is None:
        assert fidelity.startswith(("ours: ", "as published: "))
    elif plain(value) == plain(ours):
        assert fidelity.startswith("as published")
    else:  # as published only in other words, which are there then
        assert fidelity.startswith(("deviates: ", "as published: ", "as published, ")) or (
            setting,
            fidelity,
        ) == ("task.model", "as published")


def settings_in(tree, above=""):
    for key, value in tree.items():
        name = f"{above}{key}"
        if isinstance(value, dict) and not name.endswith("rank_pattern"):
            yield from settings_in(value, f"{name}.")
        else:
            yield name


@pytest.mark.parametrize("recipe", DATA)
def test_every_setting_of_a_recipe_is_in_its_table(recipe):
    tree = yaml.safe_load((RECIPES / f"{recipe}.yaml").read_text(encoding="utf-8"))
    sections = {key: tree[key] for key in ("task", "method", "training", "compare")}
    named = set(settings_in(sections))
    for task, layer in tree.get("tasks", {}).items():
        named |= {f"[{task}] {name}" for name in settings_in(layer)}
    known = {row[0] for row in table_of(recipe)}
    own = tree["method"]["name"]
    for entry in tree["compare"]["methods"]:
        # The table of MNIST names the cells of the paper; other entries are rivals at its ranks.
        # Baselines have PEFT's own options, or none.
        if recipe != "rac-mnist" and entry["name"] not in (own, "peft", "full"):
            named |= {f"[{entry['name']}] {name}" for name in settings_in(entry)}
    assert {name for name in named if not _NO_SETTING.fullmatch(name.split("] ")[-1])} <= known


@pytest.mark.parametrize("recipe", DATA)
def test_a_deviation_is_told_beside_its_line_in_the_recipe(recipe):
    lines = (RECIPES / f"{recipe}.yaml").read_text(encoding="utf-8").splitlines()
    for setting, _, _, fidelity in table_of(recipe):
        if not fidelity.startswith("deviates") or setting.startswith("["):
            continue
        key = setting.rpartition(".")[2]
        # A default has no line, unless it is told where its section is.
        places = [n for n, line in enumerate(lines) if re.search(rf"\b{key}: ", line)]
        for place in places[:1]:
            near = lines[max(0, place - 3) : place + 1]
            assert any("#" in line for line in near), f"{setting} of {recipe}"


def commands():
    """The commands of the document, as words."""
    found = re.findall(r"`(rankwise [^`]+)`", DOCUMENT)
    whole = {command for command in found if "NAME" not in command and "RUN" not in command}
    assert whole, "the document names no command"
    return sorted(whole)


@pytest.mark.parametrize("command", commands())
def test_a_command_of_the_document_can_be_given(command):
    _, name, *words = shlex.split(command)
    parser, module = argparse.ArgumentParser(), load_command(name)
    module.add_arguments(parser)
    overrides, rest = split_options(
        words, declared=parser._option_string_actions, sections=module.SECTIONS
    )
    arguments = parser.parse_args(rest)
    parse_variations(getattr(arguments, "vary", None) or [])
    if name == "reproduce":
        find_experiment(arguments.name)
    elif hasattr(arguments, "recipe"):
        load_recipe(arguments.recipe, overrides, variant=getattr(arguments, "variant", None))
