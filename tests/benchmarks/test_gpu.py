"""The benchmark for GPUs runs on a CPU at toy size, goes on after failures, and keeps its rows."""

from __future__ import annotations

import json

import pytest
import torch

from tests.benchmarks.scripts import load

gpu, measuring = load("gpu"), load("measuring")
ROW = measuring.Row("a step", "1.05", "-", "10 ms", "1.05", "≤ 1.1", "yes")


pytestmark = [
    # PEFT's hooks fire where nothing but the weights requires gradients.
    pytest.mark.filterwarnings("ignore:Full backward hook is firing"),
    # torch.compile makes an instance of a step of autograd for itself.
    pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"),
]


@pytest.fixture(autouse=True)
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def run(capsys, tmp_path):
    """Run the script and return what it printed."""

    def run(*words):
        gpu.main(["--tiny", "--output", str(tmp_path), *words])
        return capsys.readouterr().out

    return run


@pytest.mark.slow
def test_every_part_runs(run):
    printed = run()
    assert "failed" not in printed
    *_, table = printed.split("\nall\n")
    for words in (
        "autocast, delora: time",
        "plain, checkpointing, chain, B frozen: peak",
        "update init, sign, r=4: passes",
        "boundary init",
        "PEFT's lora_ga, r=2: memory beyond a pass",
        "a fold, W₀ on the cpu: steps",
        "tokens, lora_xs unmerged",
        "compiled, chain, A frozen | 0 graph breaks",
    ):
        assert words in table
    lines = [line.split(" | ") for line in table.splitlines() if ": time" in line]
    targets = {line[0].removeprefix("| tiny × 2 blocks, "): line[5] for line in lines}
    assert targets["autocast, lora_xs: time"] == "≤ 1.1"
    assert targets["autocast, delora: time"] == "≤ 1.2"
    assert targets["autocast, chain, both train: time"] == "≤ 1.13"
    assert targets["autocast, PEFT LoRA: time"] == targets["plain, delora: time"] == "-"


def test_a_part_that_is_complete_is_not_measured_again(run, monkeypatch, tmp_path):
    monkeypatch.setitem(gpu.PARTS, "fold", lambda _: iter([ROW]))
    assert run("--part", "fold").count("| a step | 1.05 |") == 1
    kept = (tmp_path / "gpu.jsonl").read_text()
    monkeypatch.setitem(gpu.PARTS, "fold", lambda _: pytest.fail("measured again"))
    assert run("--part", "fold").count("| a step | 1.05 |") == 1
    assert (tmp_path / "gpu.jsonl").read_text() == kept


def test_a_failure_is_a_row_and_the_part_is_measured_again(run, monkeypatch, tmp_path):
    def broken(_):
        yield ROW
        raise RuntimeError("out of | memory\nby far")

    monkeypatch.setattr(gpu, "PARTS", {"fold": broken, "decode": lambda _: iter([ROW])})
    printed = run()
    assert printed.count("| fold | failed: RuntimeError: out of / memory by far |") == 2
    assert printed.count("| a step | 1.05 |") == 4  # of each part, then of all
    monkeypatch.setitem(gpu.PARTS, "fold", lambda _: iter([ROW]))
    assert "failed" not in run()
    lines = [json.loads(line) for line in (tmp_path / "gpu.jsonl").read_text().splitlines()]
    assert sorted((line["part"], line["row"] is None) for line in lines) == [
        ("decode", False),
        ("decode", True),
        ("fold", False),
        ("fold", True),
    ]


def test_nothing_new_begins_once_the_time_is_spent(capsys):
    bench = load("gpu_parts.bench").Bench(measuring.Options(1, is_tiny=True), seconds_left=-1)
    (row,) = gpu.PARTS["steps"](bench)
    assert "not measured: the time of this benchmark was spent" in row.ours
    assert capsys.readouterr().err == ""


def test_variants_share_the_weights():
    bench, options = load("gpu_parts.bench"), measuring.Options(1, is_tiny=True)
    model = bench.Bench(options, 60).model(bench.TINY)
    twin = bench.share(model)
    assert twin is not model
    assert all(a is b for a, b in zip(twin.parameters(), model.parameters(), strict=True))
    assert twin.get_submodule("model.layers.0") is not model.get_submodule("model.layers.0")
