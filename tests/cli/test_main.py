"""The command as a newcomer meets it: in an empty folder, with one clear message a mistake."""

from __future__ import annotations

import json

import pytest

from rankwise.cli.main import main
from rankwise.methods.table import METHODS

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
    [("methods", list(METHODS)), ("tasks", ["digits"]), ("recipes", ["digits"])],
)
def test_list_shows_what_there_is(capsys, what, names):
    assert main(["list", what]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in names)


def test_train_trains_scores_and_says_where_the_results_are(capsys, empty_folder):
    assert main(["train", "digits", "--output", "out", *QUICK]) == 0
    printed = capsys.readouterr().out
    assert "1,300 trainable parameters" in printed
    (folder,) = (empty_folder / "out" / "runs").iterdir()
    assert {file.name for file in folder.iterdir()} == {
        "settings.json",
        "record.json",
        "test.json",
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
            ["train", "digits", "--output", "o", "--training.lr", "1"],
            "training.lr: unknown setting",
        ),
        (["train", "digits", "--output", "o", "--method.name", "lorra"], "did you mean 'lora'"),
        (["train", "digits", "--output", "o", "extra"], "expected an option"),
        (["train", "digits", "--output", "o", "--method.r"], "--method.r needs a value"),
        (
            ["train", "digits", "--output", "o", "--method.name", "lora-xs", "--method.r", "65"],
            "r must be between 1 and 64",
        ),
        (["report", "nowhere"], "no record at"),
        (["list", "methods", "--seed", "1"], "takes no settings"),
        (["compare", "digits", "--output", "a-file"], "the output a-file is a file: name a folder"),
    ],
)
@pytest.mark.usefixtures("a_file")
def test_a_mistake_gets_one_message_and_exit_code_2(capsys, empty_folder, arguments, message):
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert message in captured.err
    assert "Traceback" not in captured.err
    # At most the base model, which any later run can use; nothing of the run itself.
    assert not list(empty_folder.rglob("record.json"))
    assert not list(empty_folder.glob("o/runs/*"))


def test_results_go_to_a_folder_of_the_recipes_name(empty_folder, capsys):
    assert main(["train", "digits", *QUICK]) == 0
    assert len(list(empty_folder.glob("runs/digits/runs/*/record.json"))) == 1
    assert "runs/digits" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["trian"], ["train"], ["list", "models"]])
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
    assert "goes on where it stood" in capsys.readouterr().err
