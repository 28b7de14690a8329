"""Five questions make a recipe: answered at a terminal, or by options."""

from __future__ import annotations

import io

import datasets
import pytest

from rankwise.cli.main import main
from rankwise.training.settings.recipe import load_recipe
from tests.tasks.own.own_files import reviews, write_csv


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr("sys.stdin", io.StringIO())
    write_csv(tmp_path / "reviews.csv", ["review", "stars"], reviews())
    return tmp_path


def test_answers_at_a_terminal_become_settings(monkeypatch, capsys):
    # What needs an answer is asked again; the others have a default.
    lines = "\nreviews.csv\n./model\n\nmacro_f1\nlora,delora\n"
    monkeypatch.setattr("sys.stdin", Terminal(lines))
    assert main(["new"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("Which data") == 2
    assert "written: recipe.yaml, text-classification" in printed
    recipe = load_recipe("recipe.yaml", {})
    assert (recipe.task.model, recipe.task.metrics) == ("./model", ["macro_f1"])
    assert [method.name for method in recipe.compare.methods] == ["lora", "delora"]


def test_options_answer_without_a_terminal(folder):
    words = ["--data", "reviews.csv", "--model", "m", "--training.epochs", "7"]
    assert main(["new", *words, "--output", "mine.yaml"]) == 0
    recipe = load_recipe("mine.yaml", {})
    assert recipe.training.epochs == 7
    assert len(recipe.compare.methods) == 5


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            [],
            "Which data: a file, a folder, or hub:OWNER/NAME? There is no terminal to ask at: say",
        ),
        (["--data", "reviews.csv"], "no terminal to ask at: say it by --model"),
        (["--data", "nowhere.csv", "--model", "m"], "no file or folder"),
        (["--data", "reviews.csv", "--model", "m", "--metric", "acc"], "no metric 'acc'"),
        (["--data", "reviews.csv", "--model", "m", "--output", "reviews.csv"], "is there already"),
    ],
)
def test_what_cannot_be_made_is_refused_and_nothing_is_written(folder, capsys, words, message):
    assert main(["new", *words]) == 2
    assert message in capsys.readouterr().err
    assert not (folder / "recipe.yaml").exists()


def test_questions_that_end_early_write_nothing(folder, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", Terminal("reviews.csv\n"))
    assert main(["new"]) == 2
    assert "the questions were not answered: nothing is written" in capsys.readouterr().err
    assert not (folder / "recipe.yaml").exists()
