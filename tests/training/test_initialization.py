"""The three stages of ABM-LoRA as separate commands end where the pipeline ends."""

from __future__ import annotations

import pytest
import torch

from rankwise.core.errors import AdapterError, SettingsError
from rankwise.training.finished import FinishedRun
from rankwise.training.folder import RunFolder
from rankwise.training.initial_adapter import write_initial_adapter
from rankwise.training.initialization import initialize_adapter, reference_settings
from rankwise.training.job import prepare_job
from rankwise.training.records import InitializationRecord
from rankwise.training.run import train_run

pytestmark = pytest.mark.runs

SHORT = {"steps": 3, "learning_rate": 1e-2}


def weights(run, output):
    return FinishedRun.below(output, run.name).trained_model().state_dict()


def assert_same(run, other, output):
    first, second = weights(run, output), weights(other, output)
    assert first.keys() == second.keys()
    assert all(torch.equal(value, second[key]) for key, value in first.items())


@pytest.mark.parametrize("name", ["lora", "lora-sb", "delora", "abm-lora"])
def test_a_run_from_a_written_start_is_the_run_that_makes_it(settings, output, tmp_path, name):
    init = {"init": SHORT} if name == "abm-lora" else {}
    whole = settings(name, method=init)
    write_initial_adapter(whole, tmp_path / "start")
    saved = {"init": {"kind": "saved", "path": str(tmp_path / "start")}}
    second = settings(name, method=saved)
    train_run(whole, output)
    record = train_run(second, output)
    assert record.init == InitializationRecord(path=str(tmp_path / "start"))
    assert_same(whole, second, output)


def test_reference_then_init_then_training_is_the_pipeline(settings, output, tmp_path):
    pipeline = settings("abm-lora-task", method={"init": SHORT})
    train_run(pipeline, output)
    teacher = settings("lora")
    train_run(teacher, output)
    reference = str(RunFolder.below(output, teacher.name).adapter)
    write_initial_adapter(
        settings("abm-lora", method={"init": SHORT | {"reference": reference}}), tmp_path / "start"
    )
    last = settings("lora", method={"init": {"kind": "saved", "path": str(tmp_path / "start")}})
    train_run(last, output)
    assert_same(pipeline, last, output)


def test_the_reference_may_have_its_own_learning_rate(settings, output):
    runs = [
        settings("abm-lora-task", method={"init": SHORT | {"reference_learning_rate": rate}})
        for rate in (1e-3, 1e-2)
    ]
    curves = [train_run(run, output).curve for run in runs]
    assert curves[0] != curves[1]


def test_another_adapter_than_the_runs_is_refused_with_what_differs(settings, output, tmp_path):
    write_initial_adapter(settings("lora", r=3), tmp_path / "start")
    saved = {"init": {"kind": "saved", "path": str(tmp_path / "start")}}
    with pytest.raises(SettingsError, match=r"r is 3 there and 2 here; lora_alpha is 3.*tensors"):
        train_run(settings("lora", r=2, method=saved), output)


def test_a_path_without_an_adapter_is_refused(settings, output, tmp_path):
    saved = {"init": {"kind": "saved", "path": str(tmp_path)}}
    with pytest.raises(AdapterError, match=r"no adapter in .*write one with `rankwise init`"):
        train_run(settings("lora", method=saved), output)


def test_the_reference_may_have_its_own_warm_up_and_decay(settings):
    init = {"reference_warmup_ratio": 0.03, "reference_weight_decay": 0.0}
    run = settings("abm-lora-task", method={"init": init}, warmup_ratio=0.1, weight_decay=0.01)
    reference = reference_settings(run).training
    assert (reference.warmup_ratio, reference.weight_decay) == (0.03, 0.0)
    same = reference_settings(settings("abm-lora-task", warmup_ratio=0.1)).training
    assert (same.warmup_ratio, same.weight_decay) == (0.1, 0.01)


def test_what_the_matching_is_made_of_can_be_set(settings, output, tmp_path):
    init = {
        "layers": ["layers.0"],
        "last": None,
        "power": 1.0,
        "reduction": "sum",
        "weight_decay": 0.5,
        "samples": 20,
        "steps": 3,
    }
    job = prepare_job(settings("abm-lora", method={"init": init}), output / "base")
    record = initialize_adapter(job, RunFolder(tmp_path, tmp_path))
    assert [layer.name.rpartition("model.")[2] for layer in record.monitored] == ["layers.0"]
    plain = prepare_job(
        settings("abm-lora", method={"init": init | {"reduction": "mean"}}), output / "base"
    )
    summed, mean = (
        record.losses[0],
        initialize_adapter(plain, RunFolder(tmp_path, tmp_path)).losses[0],
    )
    assert summed > 2 * mean


@pytest.mark.parametrize(
    "init",
    [
        {"mode": "kaiming"},
        {"noise": 1e-3},
        {"orthonormal": False},
        {"sum_over": "samples"},
    ],
)
def test_lora_sbs_ablations_are_settings(settings, output, tmp_path, init):
    plain, ablated = (
        prepare_job(settings("lora-sb", r=4, method={"init": each}), output / "base")
        for each in ({}, init)
    )
    for job in (plain, ablated):
        initialize_adapter(job, RunFolder(tmp_path, tmp_path))
    pairs = zip(plain.model.state_dict().values(), ablated.model.state_dict().values(), strict=True)
    is_same = all(torch.equal(*pair) for pair in pairs)
    # A row of digits has one label, so its mean and its sum are one.
    assert is_same == ("sum_over" in init)
