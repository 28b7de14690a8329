"""Two processes train one run and leave what one leaves; what they cannot share is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from rankwise.core.errors import SettingsError
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


def train(launch: list[str], name: str, folder: Path) -> RunRecord:
    """Run ``rankwise train`` in processes of its own, and return its record."""
    options = {**OPTIONS, "method.name": name, **MORE[name]}
    words = [word for key, value in options.items() for word in (f"--{key}", value)]
    command = [sys.executable, *launch, "-m", "rankwise", "train", "digits"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    subprocess.run([*command, "--output", str(folder), *words], check=True, env=environment)
    (record,) = (folder / "runs").glob("*/record.json")
    found = read_run(record)
    assert isinstance(found, RunRecord)
    return found


@pytest.mark.processes
@pytest.mark.slow
@pytest.mark.parametrize("name", MORE)
def test_two_processes_of_torchrun_leave_the_record_of_one(tmp_path, name):
    together = train(LAUNCH, name, tmp_path / "together")
    alone = train([], name, tmp_path / "alone")
    assert together.run == alone.run
    assert together.folds == alone.folds
    assert [point.step for point in together.curve] == [point.step for point in alone.curve]
    losses = [[point.validation_loss for point in each.curve] for each in (together, alone)]
    torch.testing.assert_close(losses[0][0], losses[1][0], rtol=1e-6, atol=0)
    # Two processes fill the last batch of an epoch up with rows from its beginning.
    torch.testing.assert_close(*losses, rtol=5e-3, atol=0)


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
