"""``rankwise federate``: a recipe's methods one after another, a table, a picture, resuming."""

from __future__ import annotations

import re

import pytest

from rankwise.cli.main import main
from rankwise.federated import federate
from rankwise.training.federation_records import Federations
from rankwise.training.settings.recipe import load_recipe

SHORT = ["--task.pretrain_epochs", "2", "--training.batch_size", "128", "--federated.clients", "3"]
SHORT += ["--federated.rounds", "2", "--federated.timeout_seconds", "0.5"]


@pytest.fixture
def output(tmp_path, cache):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "base").symlink_to(cache / "base")
    return tmp_path / "out"


def test_all_strategies_stand_in_one_table_and_one_picture(faults, output, capsys):
    faults[2, 1] = "fails"
    assert main(["federate", "digits-federated", "--output", str(output), *SHORT]) == 0
    printed = capsys.readouterr().out
    for text in ("fed-rac", "fed-sb", "fed-it", "full", "3 clients, 2 rounds, split dirichlet"):
        assert text in printed
    assert "fed-rac, round 1: client 2 was left out: it failed: the power went out" in printed
    federations = Federations.read(output / "federated.json").federations
    off = {
        each.plan.run.method.name: max(row.distance for row in each.rounds) for each in federations
    }
    assert off.pop("lora") > 1e-3
    assert max(off.values()) < 1e-5
    assert "bytes up and down" in (output / "federated.html").read_text()


@pytest.mark.usefixtures("faults")
def test_what_a_federation_leaves_is_evaluated_and_exported_like_a_run(output, tmp_path, capsys):
    few = ["--federated.rounds", "1", "--federated.clients", "2", "--federated.local_steps", "2"]
    assert main(["federate", "digits-federated", "--output", str(output), *SHORT, *few]) == 0
    records = Federations.read(output / "federated.json").federations
    folders = sorted(file.parent for file in output.glob("*/record.json"))
    capsys.readouterr()
    for record in records:
        (folder,) = (each for each in folders if record.digest in each.name)
        assert main(["evaluate", str(folder), "--split", "test"]) == 0
        assert f"accuracy {record.score_test:.4f}" in capsys.readouterr().out
        lora = tmp_path / f"{record.method}-{record.digest}"
        command = ["export", str(folder), "--output", str(lora)]
        if record.method == "full":
            assert main(command) == 2
            continue
        assert main(command) == 0
        assert main(["merge", str(folder), "--output", f"{lora}-merged"]) == 0
        words = ["--split", "test", "--task", "digits", "--task.pretrain_epochs", "2"]
        capsys.readouterr()
        assert main(["evaluate", str(lora), *words]) == 0
        assert f"accuracy {record.score_test:.4f}" in capsys.readouterr().out


@pytest.mark.usefixtures("faults")
def test_report_writes_the_page_of_federations_again(output, capsys):
    few = ["--compare.methods", "[lora]", "--compare.budgets", "null", "--federated.rounds", "1"]
    assert main(["federate", "digits-federated", "--output", str(output), *SHORT, *few]) == 0
    page = (output / "federated.html").read_bytes()
    (output / "federated.html").unlink()
    capsys.readouterr()
    assert main(["report", str(output)]) == 0
    printed = capsys.readouterr().out
    assert "fed-it" in printed
    assert "federated.html" in printed
    assert (output / "federated.html").read_bytes() == page
    (folder,) = (file.parent for file in output.glob("*/record.json"))
    assert main(["report", str(folder)]) == 2
    assert f"is one federation of those in {output}" in capsys.readouterr().err
    assert main(["report", str(output), "--format", "csv"]) == 2
    assert "no table in other formats and no means" in capsys.readouterr().err


def test_a_stopped_federation_goes_on_with_resume_and_not_without(faults, output, capsys):
    command = ["federate", "digits-federated", "--output", str(output), *SHORT]
    command += ["--compare.budgets", "[x]", "--compare.methods", "[{name: lora, budget: x}]"]
    faults.update(dict.fromkeys([(0, 2), (1, 2)], "silent"))
    assert main(command) == 2
    assert "bring clients back, and go on with --resume" in capsys.readouterr().err
    faults.clear()
    assert main(command) == 2
    assert "add --resume" in capsys.readouterr().err
    assert main([*command, "--resume", "--federated.alpha", "9"]) == 2
    assert re.search(
        "'lora' that was interrupted in .* has other settings", capsys.readouterr().err
    )
    faults[0, 1] = faults[1, 1] = "fails"  # round 1 is done already
    faults[2, 2] = "fails"
    assert main([*command, "--resume", "--federated.min_clients", "1"]) == 0
    assert main([*command, "--resume"]) == 0  # what is done is shown again


def test_apps_for_machines_of_their_own_are_written_instead(output, capsys):
    command = ["federate", "digits-federated", "--app", str(output / "apps"), *SHORT]
    assert main(command) == 0
    assert "rac-lora, lora-sb, lora, full" in capsys.readouterr().out
    assert (output / "apps" / "lora-sb" / "federation.py").exists()
    assert main(command) == 2
    assert "is not empty" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--federated.client", "3"], "federated.client: there is no such .*--federated.clients"),
        (["--federated.alpha", "0"], "federated.alpha: .*got 0"),
        (["--federated.min_clients", "9"], "min_clients must be at most .* 5, got 9"),
        (["--federated", "3"], "federated: .*got 3"),
        (["--federated.local_steps", "2", "--federated.local_epochs", "2"], "leave one out"),
        (
            ["--federated.split", "even", "--federated.alpha", "1"],
            "alpha 1 needs split 'dirichlet'",
        ),
        (["--federated.aggregation", "krum"], "federated.aggregation: .*'mean', 'median'"),
        (["--federated.aggregation", "median"], "guards against nothing, got min_clients 2"),
        (["--federated.trim", "0.1"], "trim 0.1 needs aggregation 'trimmed-mean', got 'mean'"),
        (["--federated.clipping_norm", "1"], "clipping_norm 1 needs aggregation 'norm-clipping'"),
        (["--training.rate", "1"], "training.rate: there is no such"),
        (["--training.epochs", "3"], "training.epochs: means nothing in a federation"),
        (["--compare.seeds", "[0, 1]"], "compare.seeds: means nothing in a federation"),
        (["--method.schedule.every_epochs", "1"], "every_epochs: means nothing in a federation"),
        (["--training.warmup_ratio", "0.1"], "training.warmup_ratio 0.1: set it to 0.0"),
        (["--compare.methods", "[cola]"], "method 'cola': a federated chain needs a frozen sketch"),
        (["--compare.methods", "[{name: rac-lora, schedule: {final_rank: 2}}]"], "final_rank 2"),
        (
            [
                "--compare.methods",
                "[{name: rac-lora, schedule: {every_epochs: null, captured_below: 0.1, "
                "look_every: 5}}]",
            ],
            "captured_below 0.1: set it to None",
        ),
        (
            ["--compare.methods", "[{name: abm-lora, schedule: {kind: chain}}]"],
            "method 'abm-lora' .* has no federated form: choose from rac-lora",
        ),
    ],
)
def test_a_mistake_is_told_in_one_message(faults, output, capsys, options, message):
    assert main(["federate", "digits-federated", "--output", str(output), *options]) == 2
    assert re.search(message, capsys.readouterr().err)


def test_writing_apps_takes_no_options_of_a_simulation(tmp_path, capsys):
    command = ["federate", "digits-federated", "--app", str(tmp_path / "apps")]
    assert main([*command, "--workers", "2"]) == 2
    assert "--workers means nothing with --app" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*command, "--output", str(tmp_path)])
    assert main([*command, "--compare.methods", "[lora, {name: lora, r: 2}]"]) == 2
    assert "give each a label of its own" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["train", "compare", "init", "doctor"])
def test_other_commands_take_no_federated_settings(tmp_path, capsys, command):
    words = [command, "digits", "--federated.clients", "3"]
    words += ["--output", str(tmp_path / "out")] if command != "doctor" else []
    assert main(words) == 2
    assert "and none of federated" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["train", "compare", "federate"])
def test_a_recipe_may_say_among_whom_and_is_read_strictly_by_every_command(
    tmp_path, capsys, command
):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("method: {name: lora}\nfederated: {clients: 3, round: 4}\n")
    assert main([command, str(recipe), "--output", str(tmp_path / "out")]) == 2
    assert "federated.round: unknown setting; did you mean 'rounds'" in capsys.readouterr().err


def test_options_win_over_what_a_recipe_says(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("method: {name: lora}\nfederated: {clients: 3, rounds: 4}\n")
    (plan,) = federate.plans_of(load_recipe(str(recipe), {"federated": {"rounds": 5}}))
    assert (plan.federated.clients, plan.federated.rounds) == (3, 5)
