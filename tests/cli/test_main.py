"""The command as a newcomer meets it: in an empty folder, with one clear message a mistake."""

from __future__ import annotations

import errno
import json
import os
import runpy
import shlex
import sys

import pytest

from rankwise.cli.main import main
from rankwise.core.errors import AdapterError
from rankwise.methods.table import METHODS
from rankwise.training.settings.recipe import load_recipe
from tests.full_disk import Disk

QUICK = ["--task.pretrain_epochs", "1", "--training.epochs", "1", "--training.batch_size", "256"]


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def a_file(empty_folder):
    (empty_folder / "a-file").touch()


@pytest.mark.parametrize(
    ("what", "names"),
    [
        ("methods", list(METHODS)),
        ("tasks", ["digits"]),
        ("recipes", ["digits"]),
        ("settings", ["training.epochs", "passes over the training rows"]),
    ],
)
def test_list_shows_what_there_is(capsys, what, names):
    assert main(["list", what]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in names)
    assert main(["list", what, "--json"]) == 0
    assert all(json.loads(capsys.readouterr().out))


def test_list_alone_shows_all_but_settings(capsys):
    assert main(["list"]) == 0
    printed = capsys.readouterr().out
    assert "lora-sb" in printed
    assert "glue-tutorial" in printed
    assert "training.epochs" not in printed
    assert main(["list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["recipes"][0]["recipe"] == "abm-dialogue"


def test_the_settings_of_one_section_can_be_listed(capsys):
    assert main(["list", "settings", "method.schedule"]) == 0
    printed = capsys.readouterr().out
    assert "every_epochs" in printed
    assert "delora_lambda" not in printed


@pytest.mark.parametrize(
    ("topic", "texts"),
    [
        ("training.learning_rate", ["number > 0", "per step", "0.001", "--training.learning_rate"]),
        ("lr", ["training.learning_rate: ", "method.init.learning_rate of boundary: "]),
        ("method.adapter.alpha", ["of lora, lora_xs", "default  null"]),
        ("task.model", ["default  none: say which"]),
        ("training", ["training.epochs", "training.loop"]),
        ("task.pretrain_epochs", ["of digits", "of mnist"]),
    ],
)
def test_help_explains_settings(capsys, topic, texts):
    assert main(["help", topic]) == 0
    printed = capsys.readouterr().out
    assert all(text in printed for text in texts)


@pytest.mark.parametrize(("words", "usage"), [([], "COMMAND"), (["compare"], "--vary")])
def test_help_explains_commands(capsys, words, usage):
    with pytest.raises(SystemExit) as caught:
        main(["help", *words])
    assert caught.value.code == 0
    assert usage in capsys.readouterr().out


def test_without_a_command_the_help_names_first_steps(capsys):
    assert main([]) == 2
    shown = capsys.readouterr().err
    assert "rankwise quickstart" in shown
    assert "rankwise compare reviews.csv --task.model MODEL" in shown


def test_a_misspelt_command_is_told_the_nearest(capsys):
    assert main(["trian", "digits"]) == 2
    assert "error: no command 'trian'; did you mean 'train'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("word", "model"),
    [
        ("reviews.csv", " --task.model MODEL"),
        ("hub:owner/name", " --task.model MODEL"),
        ("my photos", " --task.model MODEL"),
        ("digits", ""),
        ("mine.yaml", ""),
    ],
)
def test_data_or_a_recipe_in_the_place_of_a_command_is_told_one(capsys, empty_folder, word, model):
    (empty_folder / "reviews.csv").write_text("text,label\na,b\n")
    (empty_folder / "mine.yaml").write_text("task: {name: digits}\n")
    (empty_folder / "my photos").mkdir()
    assert main([word]) == 2
    quoted = shlex.quote(word)
    told = capsys.readouterr().err
    assert f"error: no command {word!r}; it comes after one: " in told
    assert f"rankwise train {quoted}{model} trains" in told
    assert f"rankwise compare {quoted}{model} compares" in told


def test_show_prints_a_recipe_that_is_a_recipe_again(capsys, empty_folder):
    assert main(["show", "rac-mnist", "--quick", "--lr", "0.5", "--method.name", "cola"]) == 0
    (empty_folder / "mine.yaml").write_text(capsys.readouterr().out, encoding="utf-8")
    overrides = {"training": {"learning_rate": 0.5}, "method": {"name": "cola"}}
    assert load_recipe("mine.yaml") == load_recipe("rac-mnist", overrides, variant="quick")


def test_the_module_is_the_command(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["rankwise", "list", "recipes"])
    with pytest.raises(SystemExit) as caught:
        runpy.run_module("rankwise", run_name="__main__")
    assert caught.value.code == 0
    assert "digits" in capsys.readouterr().out


def test_train_trains_scores_and_says_where_the_results_are(capsys, empty_folder):
    assert main(["train", "digits", "--output", "out", *QUICK]) == 0
    printed = capsys.readouterr().out
    assert "1,300 trainable parameters" in printed
    (folder,) = (empty_folder / "out" / "runs").iterdir()
    assert {file.name for file in folder.iterdir()} == {
        "settings.json",
        "record.json",
        "retention.json",
        "test.json",
        "test.log",
        "validation.log",
        "adapter",
    }
    assert folder.name in printed

    assert main(["evaluate", str(folder), "--split", "test"]) == 0
    assert f"{folder.name} on test of digits: " in capsys.readouterr().out
    assert main(["export", str(folder), "--output", "lora"]) == 0
    assert "a plain LoRA of rank 4" in capsys.readouterr().out
    assert (empty_folder / "lora" / "adapter_model.safetensors").exists()
    assert main(["export", str(folder), "--output", "lora"]) == 2
    assert "is not empty" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "digit", "--output", "o"], "no recipe 'digit'"),
        (
            ["train", "digits", "--output", "o", "--training.rate", "1"],
            "--training.rate: there is no such option or setting",
        ),
        (
            ["train", "digits", "--output", "o", "--lr", "-1"],
            "training.learning_rate: Input should",
        ),
        (["train", "digits", "--output", "o", "--method.name", "lorra"], "did you mean 'lora'"),
        (["train", "digits", "--output", "o", "--method.r"], "--method.r needs a value"),
        (
            ["train", "digits", "--output", "o", "--method.name", "lora-xs", "--method.r", "65"],
            "r must be between 1 and 64",
        ),
        (
            ["train", "digits", "--output", "o", "--target_modules", "layers.0,attention"],
            "has no module 'attention'; choose from layers.0, layers.2, layers.4",
        ),
        (["report", "nowhere"], "no record at"),
        (["list", "methods", "--seed", "1"], "takes no settings"),
        (["compare", "digits", "--output", "a-file"], "the output a-file is a file: name a folder"),
        (["train", "digits", "--output", "a-file/below"], "a file is in the place of a folder"),
        (["train", "digits", "--output", "x" * 300], "File name too long: name it shorter"),
        (["compare", "digits", "--data", "f.csv"], "task.data: unknown setting"),
        (["compare", "digits", "--seeds", "3", "--compare.seeds", "3"], "give one of them"),
        (["compare", "digits", "--method.name", "cola"], "--compare.methods lora,lora-sb"),
        (["compare", "digits", "--method.r", "7"], "--vary method.r=4,8"),
        (["compare", "rac-glue", "--seed", "1"], "none of seed"),
        (["train", "digits", "--compare.seeds", "3"], "none of compare"),
        (["list", "methods", "training"], "only settings have sections"),
        (["list", "settings", "trainin"], "no section of settings 'trainin'"),
        (["help", "nonsense"], "no such option or setting"),
    ],
)
@pytest.mark.usefixtures("a_file")
def test_a_mistake_gets_one_message_and_exit_code_2(capsys, empty_folder, arguments, message):
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert message in captured.err
    assert "Traceback" not in captured.err
    # Not even the base model, if it was made on the way.
    assert [path.name for path in empty_folder.iterdir()] == ["a-file"]


def test_results_go_to_a_folder_of_the_recipes_name(empty_folder, capsys):
    assert main(["train", "digits", *QUICK]) == 0
    assert len(list(empty_folder.glob("runs/digits/runs/*/record.json"))) == 1
    assert "runs/digits" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [["train"], ["list", "models"], ["train", "digits", "extra"], ["--seed", "1"]],
)
def test_what_is_no_command_shows_the_usage_and_exits_with_2(capsys, arguments):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: rankwise" in capsys.readouterr().err


def test_a_loss_that_breaks_down_is_a_mistake_of_the_settings(capsys, empty_folder):
    words = ["train", "digits", "--output", "o", "--method.name", "full", *QUICK]
    assert main([*words, "--training.learning_rate", "1e30", "--training.epochs", "3"]) == 2
    assert "error: the loss became" in capsys.readouterr().err
    assert not list(empty_folder.glob("o/runs/*"))


@pytest.mark.processes
@pytest.mark.usefixtures("forked_workers")
def test_compare_writes_table_summary_and_page_and_goes_on_where_it_stood(capsys, empty_folder):
    words = ["compare", "digits", "--output", "out", "--workers", "1", *QUICK]
    words += ["--compare.learning_rates", "[1e-3, 1e-2]", "--compare.seeds", "[0, 1]"]
    words += ["--compare.sweep_seeds", "1"]
    methods = "[{name: lora, r: 2, budget: small}, {name: lora-xs, r: 6, budget: small}]"
    words += ["--compare.methods", methods, "--compare.widenings", "0"]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "lora-xs r=6 failed: method: r must be between 1 and 5" in printed

    summary = json.loads((empty_folder / "out" / "summary.json").read_text())
    lora, lora_xs = summary["methods"]
    assert (lora["status"], lora["seeds"]) == ("done", [0, 1])
    assert lora_xs["status"] == "failed"
    assert f"{lora['score_mean']:.3f}" in printed
    assert (empty_folder / "out" / "report.html").exists()
    # Both rates on the first seed, the better one on the second; test for the better one alone.
    assert len(list(empty_folder.glob("out/runs/lora-r2*"))) == 3
    assert len(list(empty_folder.glob("out/runs/*/test.json"))) == 2

    done = {file: file.stat().st_mtime_ns for file in empty_folder.glob("out/runs/lora-r2*/*.json")}
    assert main(words) == 0
    assert {file: file.stat().st_mtime_ns for file in done} == done

    assert main(["report", "out"]) == 0
    assert f"{lora['score_mean']:.3f}" in capsys.readouterr().out


def test_ctrl_c_says_how_to_go_on(capsys, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("rankwise.cli.list_command.run", interrupted)
    assert main(["list", "methods"]) == 130
    assert "rerun the same command to resume" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("number", "hint"),
    [(errno.ENOSPC, "make room, then rerun"), (errno.EROFS, "name a folder that can be written")],
)
def test_what_the_disk_cannot_do_is_told_with_the_file(capsys, monkeypatch, number, hint):
    def refused(*_):
        raise OSError(number, "cannot", "runs/x/record.json")

    monkeypatch.setattr("rankwise.cli.list_command.run", refused)
    assert main(["list", "methods"]) == 2
    assert f"error: runs/x/record.json: cannot: {hint}" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["train", "digits"], ["init", "digits", "--method", "lora"]])
def test_a_folder_that_is_read_only_is_named(capsys, monkeypatch, empty_folder, words):
    with monkeypatch.context() as patch:
        Disk(empty_folder, patch, refused=1, number=errno.EROFS)
        assert main([*words, "--output", "out", *QUICK]) == 2
    told = capsys.readouterr().err
    assert "Read-only file system: name a folder that can be written" in told
    assert not list(empty_folder.rglob("*.json"))


def test_a_reader_that_has_gone_ends_a_command_without_a_word(monkeypatch, capsys):
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as output:
        monkeypatch.setattr(sys, "stdout", output)
        assert main(["show", "digits"]) == 1
        monkeypatch.undo()
    assert capsys.readouterr() == ("", "")


# A pipe that breaks is not our output's: that one is read.
ERRORS = [ValueError("ours"), KeyError("ours"), OSError(errno.EBADF, "x"), BrokenPipeError()]


@pytest.mark.parametrize("error", ERRORS)
def test_a_fault_of_ours_keeps_its_traceback(monkeypatch, error):
    def faulty(*_):
        raise error

    monkeypatch.setattr("rankwise.cli.list_command.run", faulty)
    with pytest.raises(type(error)):
        main(["list", "methods"])


def test_what_others_wrote_reaches_the_terminal_on_lines_of_ours(capsys, monkeypatch):
    def refused(*_):
        raise AdapterError("a [/red] name\x1b[2J\nerror: all is well")

    monkeypatch.setattr("rankwise.cli.list_command.run", refused)
    assert main(["list", "methods"]) == 2
    assert capsys.readouterr().err == ("error: a [/red] name\\x1b[2J\n  error: all is well\n")


@pytest.mark.processes
@pytest.mark.usefixtures("forked_workers")
def test_without_the_extra_a_comparison_ends_with_table_and_summary(
    capsys, monkeypatch, empty_folder
):
    monkeypatch.setattr("rankwise.cli.compare_command.missing_extra", lambda _: "get plotly")
    words = ["compare", "digits", "--output", "out", "--workers", "1", *QUICK, "--rank", "2"]
    words += ["--compare.methods", "[{name: lora, r: 2}]", "--seeds", "1"]
    words += ["--compare.widenings", "0", "--learning_rates", "0.01"]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "no page will be written: get plotly" in printed
    assert "for the page: get plotly, then rankwise report out" in printed
    assert "learning rate chosen on validation" in printed
    assert (empty_folder / "out" / "summary.json").exists()
    assert not (empty_folder / "out" / "report.html").exists()

    # The command that is recorded makes the same comparison again.
    command = json.loads((empty_folder / "out" / "summary.json").read_text())["protocol"]["command"]
    program, *again = shlex.split(command)
    assert program == "rankwise"
    done = list(empty_folder.glob("out/runs/*/record.json"))
    assert main([*again, "--workers", "1"]) == 0
    assert list(empty_folder.glob("out/runs/*/record.json")) == done
