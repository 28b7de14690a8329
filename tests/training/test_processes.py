"""Two processes train one run and leave what one leaves; what they cannot share is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from rankwise.cli.main import main
from rankwise.core.errors import SettingsError
from rankwise.training.loops.order import EpochOrder
from rankwise.training.processes import check_processes
from rankwise.training.records import RunRecord, read_run
from rankwise.training.settings.recipe import load_recipe

OPTIONS = {
    "task.pretrain_epochs": "2",
    "training.epochs": "2",
    "training.batch_size": "80",
    "training.loop": "trainer",
    "method.r": "2",
}
MORE = {"lora-sb": {}, "rac-lora": {"method.schedule.every_epochs": "1"}}
LAUNCH = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def train_with(name: str, folder: Path) -> list[str]:
    """Return the words after ``rankwise`` that train a short run."""
    options = {**OPTIONS, "method.name": name, **MORE[name]}
    words = [word for key, value in options.items() for word in (f"--{key}", value)]
    return ["train", "digits", "--output", str(folder), *words]


def record_in(folder: Path) -> RunRecord:
    (record,) = (folder / "runs").glob("*/record.json")
    found = read_run(record)
    assert isinstance(found, RunRecord)
    return found


@pytest.fixture
def filled_up(monkeypatch) -> None:
    """Let one process end an epoch as Accelerate lets several: the last batch is filled up with
    the epoch's first rows. It would else be a mean over fewer, and all that follows another run."""
    order_of = EpochOrder.__iter__
    size = int(OPTIONS["training.batch_size"])

    def filled(order: EpochOrder) -> Iterator[int]:
        rows = list(order_of(order))
        assert len(rows) % size, "no batch is to be filled up"
        return iter(rows + rows[: -len(rows) % size])

    monkeypatch.setattr(EpochOrder, "__iter__", filled)


@pytest.mark.processes
@pytest.mark.slow
@pytest.mark.usefixtures("filled_up")
@pytest.mark.parametrize("name", MORE)
def test_two_processes_of_torchrun_leave_the_record_of_one(tmp_path, name):
    command = [sys.executable, *LAUNCH, "-m", "rankwise", *train_with(name, tmp_path / "together")]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    subprocess.run(command, check=True, env=environment)
    assert main(train_with(name, tmp_path / "alone")) == 0
    together, alone = record_in(tmp_path / "together"), record_in(tmp_path / "alone")
    assert together.run == alone.run
    assert together.folds == alone.folds
    assert [point.step for point in together.curve] == [point.step for point in alone.curve]
    losses = [[point.validation_loss for point in each.curve] for each in (together, alone)]
    torch.testing.assert_close(*losses, rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"loop": "lean"}, r"training\.loop is 'lean'.*there are 3"),
        ({"batch_size": 32, "loop": "trainer"}, r"batch_size is 32.*multiple of 3"),
    ],
)
def test_what_processes_cannot_share_is_refused(monkeypatch, changed, message):
    settings = load_recipe("digits", {"training": changed}).run()
    check_processes(settings)
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(SettingsError, match=message):
        check_processes(settings)


@pytest.mark.parametrize(
    ("variable", "message"),
    [("ACCELERATE_USE_DEEPSPEED", "DeepSpeed ZeRO"), ("ACCELERATE_USE_FSDP", "shards no weights")],
)
def test_launchers_that_shard_are_refused_by_name(monkeypatch, variable, message):
    settings = load_recipe("digits", {"training": {"batch_size": 32, "loop": "trainer"}}).run()
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv(variable, "true")
    with pytest.raises(SettingsError, match=message):
        check_processes(settings)
