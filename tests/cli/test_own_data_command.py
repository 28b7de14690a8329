"""Data in the place of a recipe: guessed, checked before a model is loaded, and written down."""

from __future__ import annotations

import datasets
import pytest

from rankwise.cli import train_command
from rankwise.cli.main import main
from rankwise.cli.planning import with_budget
from rankwise.core.locks import sole_use
from rankwise.tasks.own.source import digest_of
from rankwise.training.settings.recipe import load_recipe
from tests.models.saved import make_bert
from tests.tasks.own.own_files import reviews, write_csv, write_jsonl

QUICK = ["--training.epochs", "1", "--method.r", "2"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    write_csv(
        tmp_path / "reviews.csv",
        ["id", "review", "stars"],
        [[n, *row] for n, row in enumerate(reviews())],
    )
    return tmp_path


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return make_bert(tmp_path_factory.mktemp("bert") / "model", [text for text, _ in reviews()])


def test_a_file_is_trained_on_and_leaves_a_recipe_that_does_the_same(folder, bert, capsys):
    assert main(["train", "reviews.csv", "--task.model", bert, *QUICK]) == 0
    printed = capsys.readouterr().out
    assert "guessed: --task.name text-classification, --task.text review, --task.label" in printed
    assert "2 classes: bad, good" in printed
    assert "train: 16 rows" in printed
    (record,) = folder.glob("runs/reviews/runs/*/record.json")
    assert main(["train", "runs/reviews/recipe.yaml", "--output", "again"]) == 0
    assert (folder / "again" / "runs" / record.parent.name / "record.json").is_file()


def test_what_is_said_is_not_called_guessed(bert, capsys):
    words = ["train", "reviews.csv", "--task.model", bert, "--task.text", "review", "--task.label"]
    assert main([*words, "stars", "--dry-run"]) == 0
    assert "guessed: --task.name text-classification\n" in capsys.readouterr().out


def test_a_delimiter_is_guessed_kept_and_told_as_a_shell_takes_it(folder, bert, capsys):
    rows = [f"{text};{label}" for text, label in reviews()]
    (folder / "a.csv").write_text("\n".join(["the text;label", *rows]), encoding="utf-8")
    words = ["train", "a.csv", "--task.model", bert, "--dry-run"]
    assert main(words) == 0
    guessed = "--task.text 'the text', --task.label label, --task.delimiter ';'\n"
    assert guessed in capsys.readouterr().out
    assert load_recipe("a.csv", {"task": {"model": bert}}).task.delimiter == ";"
    assert main([*words, "--task.delimiter", ","]) == 0
    assert "--task.text 'the text;label'" in capsys.readouterr().out


def test_the_recipe_holds_the_digest_and_the_place_of_the_data(folder, bert):
    task = load_recipe("reviews.csv", {"task": {"model": bert}}).task
    assert task.data == str(folder / "reviews.csv")
    assert task.data_digest == digest_of("reviews.csv")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--task.model", "nowhere", "--task.label", "star"], "no column 'star'; did you mean 'st"),
        ([], "which model is to be adapted to reviews.csv? set --task.model"),
        (["--task.model", "nowhere", "--task.metrics", "f2"], "no metric 'f2'; did you mean"),
        (
            ["--task.model", "nowhere", "--task.metrics", "perplexity,likelihood"],
            "perplexity falls",
        ),
    ],
)
def test_mistakes_are_told_before_a_model_is_looked_for(folder, capsys, words, message):
    assert main(["train", "reviews.csv", *words]) == 2
    assert message in capsys.readouterr().err
    assert not (folder / "runs").exists()


def test_data_that_are_not_there_are_no_recipe(capsys):
    assert main(["train", "review.csv", "--task.model", "x"]) == 2
    assert "no file or folder" in capsys.readouterr().err


def test_ranks_are_chosen_for_one_budget(bert):
    recipe = load_recipe("reviews.csv", {"task": {"model": bert}})
    words = type("Arguments", (), {"budget": 2000.0, "recipe": "reviews.csv"})
    fitted = with_budget(recipe, words).compare
    # Two blocks of six linear layers and the pooler, 16 × 16 but two of 16 × 32.
    assert {method.name: method.r for method in fitted.methods} == {
        "lora": 4,
        "abm-lora": 4,
        "rac-lora": 8,
        "lora-sb": 12,
        "delora": 4,
    }
    assert {method.budget for method in fitted.methods} == {"2,000"}


def test_the_budget_follows_the_rank_that_is_given_for_lora(bert):
    changed = {"task": {"model": bert}, "method": {"r": 2}}
    words = type("Arguments", (), {"budget": None, "recipe": "reviews.csv"})
    fitted = with_budget(load_recipe("reviews.csv", changed), words).compare
    assert {method.name: method.r for method in fitted.methods}["lora"] == 2
    assert {method.name: method.r for method in fitted.methods}["rac-lora"] == 4


def test_a_folder_that_is_not_there_is_said_to_be_none(capsys):
    assert main(["train", "reviews.csv", "--task.model", "./nowhere"]) == 2
    assert "model './nowhere' cannot be loaded: there is no such folder" in capsys.readouterr().err


def test_a_budget_that_is_too_small_is_refused(bert, capsys):
    assert main(["compare", "reviews.csv", "--task.model", bert, "--budget", "10"]) == 2
    assert (
        "a budget of 10 parameters is too small for lora: at rank 1 it" in capsys.readouterr().err
    )


@pytest.mark.processes
@pytest.mark.usefixtures("forked_workers")
def test_a_comparison_is_planned_cut_and_made(folder, bert, capsys):
    words = ["compare", "reviews.csv", "--task.model", bert, "--training.epochs", "1"]
    words += ["--compare.methods", "lora,delora", "--workers", "1", "--budget", "1000"]
    assert main([*words, "--plan"]) == 0
    planned = capsys.readouterr().out
    assert "at most 10 runs: 2 methods, 3 seeds" in planned
    assert "GB of memory at most" in planned
    assert not (folder / "runs").exists()
    words += ["--compare.seeds", "0", "--compare.widenings", "0"]
    words += ["--compare.learning_rates", "0.01"]
    assert main([*words, "--hours", "10"]) == 0
    assert "for 10 h: nothing is cut" in capsys.readouterr().out
    assert (folder / "runs" / "reviews" / "summary.json").is_file()
    assert load_recipe("runs/reviews/recipe.yaml").compare.methods[0].r == 2


def test_conversations_and_texts_are_seen_for_what_they_are(folder):
    write_jsonl(folder / "chats.jsonl", [{"messages": [{"role": "user", "content": "x"}]}])
    assert load_recipe("chats.jsonl", {"task": {"model": "m"}}).task.name == "sft"
    (folder / "plain.txt").write_text("one\n\ntwo\n", encoding="utf-8")
    assert load_recipe("plain.txt", {"task": {"model": "m"}}).task.name == "causal-lm"


@pytest.mark.parametrize("command", ["train", "compare"])
def test_a_folder_in_which_another_command_works_is_told_before_data_are_read(
    folder, bert, capsys, command
):
    words = [command, "reviews.csv", "--task.model", bert, *QUICK]
    busy = folder / "runs" / "reviews"
    if command == "train":
        changed = {"task": {"model": bert}, "training": {"epochs": 1}, "method": {"r": 2}}
        busy = busy / "runs" / load_recipe("reviews.csv", changed).run().name
    with sole_use(busy):
        assert main(words) == 2
    printed = capsys.readouterr()
    assert f"another command of Rankwise is at work in {busy.relative_to(folder)}" in printed.err
    assert "train: 16 rows" not in printed.out
    assert not busy.exists()


def test_the_recipe_finds_files_beside_the_data_from_anywhere(folder):
    (folder / "photos").mkdir()
    for name in ("a", "b"):
        rows = [[f"{n}.png", n % 2] for n in range(20)]
        write_csv(folder / f"{name}.csv", ["image", "label"], rows)
    task = {"model": "m", "image_folder": "photos", "test": "b.csv"}
    found = load_recipe("a.csv", {"task": task}).task
    assert found.image_folder == str(folder / "photos")
    assert found.test == str(folder / "b.csv")


@pytest.mark.parametrize(("rank", "times"), [("0", 1), ("1", 0)])
def test_of_the_processes_of_a_launcher_one_speaks(bert, capsys, monkeypatch, rank, times):
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setattr(train_command, "_train", lambda *_, **__: 0)
    assert main(["train", "reviews.csv", "--task.model", bert, *QUICK]) == 0
    printed = capsys.readouterr().out
    assert [printed.count(words) for words in ("guessed: ", "train: 16 rows")] == [times, times]
