"""Each worker has one GPU, and no more share one than its memory holds."""

from __future__ import annotations

import os

import pytest
import torch

from rankwise.comparison.engines.devices import (
    VISIBLE,
    check_memory,
    devices_of_workers,
    visible_devices,
)
from rankwise.comparison.engines.local import LocalEngine
from rankwise.core.cores import usable_cores
from rankwise.core.errors import SettingsError
from tests.comparison import made_records


def test_workers_take_turns_among_the_gpus():
    assert devices_of_workers(None, None, devices=["0", "1"]) == ["0", "1"]
    assert devices_of_workers(None, 2, devices=["0", "1"]) == ["0", "1", "0", "1"]
    assert devices_of_workers(3, 2, devices=["4", "7"]) == ["4", "7", "4"]


def test_without_gpus_there_is_one_a_core():
    assert devices_of_workers(3, None, devices=[]) == [None] * 3
    assert devices_of_workers(None, None, devices=[]) == [None] * usable_cores()


def test_more_workers_than_gpus_take_are_refused():
    with pytest.raises(SettingsError, match=r"lower it to 2, or .*--workers-per-gpu"):
        devices_of_workers(3, None, devices=["0", "1"])
    with pytest.raises(SettingsError, match="torch sees none"):
        devices_of_workers(None, 2, devices=[])


@pytest.mark.parametrize(
    ("variable", "count", "expected"),
    [
        (None, 2, ["0", "1"]),
        ("3,5", 2, ["3", "5"]),
        ("", 0, []),
        ("GPU-a,GPU-b", 2, ["GPU-a", "GPU-b"]),
    ],
)
def test_the_gpus_are_those_that_the_environment_names(monkeypatch, variable, count, expected):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    if variable is None:
        monkeypatch.delenv(VISIBLE, raising=False)
    else:
        monkeypatch.setenv(VISIBLE, variable)
    assert visible_devices() == expected


def test_memory_is_judged_by_what_runs_here_have_taken(tmp_path):
    check_memory(tmp_path, 8, total=1)
    record = made_records.run(peak_memory_bytes=6_000_000_000)
    folder = tmp_path / "runs" / record.run
    folder.mkdir(parents=True)
    record.write(folder / "record.json")
    check_memory(tmp_path, 4, total=24_000_000_000)
    with pytest.raises(SettingsError, match=rf"5 times the 6\.0 GB that {record.run} took.* 4 fit"):
        check_memory(tmp_path, 5, total=24_000_000_000)


def device_seen(barrier):
    """Wait until another worker is here, so that each takes one call."""
    (barrier / str(os.getpid())).touch()
    while len(list(barrier.iterdir())) < 2:
        pass
    return os.environ[VISIBLE]


@pytest.mark.processes
@pytest.mark.usefixtures("forked_workers")
def test_each_worker_sees_its_own_gpu_and_no_other(tmp_path):
    with LocalEngine(devices=["5", "6"]) as engine:
        assert sorted(engine.run(device_seen, [(tmp_path,), (tmp_path,)])) == ["5", "6"]
