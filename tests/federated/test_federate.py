"""``rankwise federate``: a recipe's methods one after another, a table, a picture, resuming."""

from __future__ import annotations

import json
import re

import pytest

from rankwise.cli.main import main
from rankwise.federated import federate
from rankwise.federated.client import make_client_app
from rankwise.federated.server import Server
from tests.federated.local_grid import LocalGrid

SHORT = ["--task.pretrain_epochs", "2", "--training.batch_size", "128", "--federated.clients", "3"]
SHORT += ["--federated.rounds", "2", "--federated.timeout_seconds", "0.5"]


@pytest.fixture
def faults(monkeypatch):
    """Let the clients answer in this process; a test may break some."""
    faults = {}

    def simulate(plan, folder, cache, *, workers):
        grid = LocalGrid(make_client_app(plan, cache), plan.federated.clients, faults)
        return Server(plan, folder, cache).run(grid)

    monkeypatch.setattr(federate, "simulate", simulate)
    return faults


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
    federations = json.loads((output / "federated.json").read_text())["federations"]
    off = {
        each["plan"]["run"]["method"]["name"]: max(row["distance"] for row in each["rounds"])
        for each in federations
    }
    assert off.pop("lora") > 1e-3
    assert max(off.values()) < 1e-5
    assert "bytes up and down" in (output / "federated.html").read_text()


def test_a_stopped_federation_goes_on_with_resume_and_not_without(faults, output, capsys):
    command = ["federate", "digits-federated", "--output", str(output), *SHORT]
    command += ["--compare.budgets", "[x]", "--compare.methods", "[{name: lora, budget: x}]"]
    faults.update(dict.fromkeys([(0, 2), (1, 2)], "silent"))
    assert main(command) == 2
    assert "bring clients back, and go on with --resume" in capsys.readouterr().err
    faults.clear()
    assert main(command) == 2
    assert "add --resume" in capsys.readouterr().err
    assert main([*command, "--resume"]) == 0
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
        (["--federated.client", "3"], "federated.client: unknown setting; did you mean 'clients'"),
        (["--federated.alpha", "0"], "federated.alpha: .*got 0"),
        (["--federated.min_clients", "9"], "min_clients must be at most .* 5, got 9"),
        (["--training.lr", "1"], "training.lr: unknown setting"),
    ],
)
def test_a_mistake_is_told_in_one_message(faults, output, capsys, options, message):
    assert main(["federate", "digits-federated", "--output", str(output), *options]) == 2
    assert re.search(message, capsys.readouterr().err)
