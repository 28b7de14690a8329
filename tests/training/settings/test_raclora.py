"""Every key of RAC-LoRA's configuration has its counterpart, or is refused with the reason."""

from __future__ import annotations

import importlib

import pytest

from rankwise.core.errors import SettingsError
from rankwise.training.run import train_run
from rankwise.training.settings.raclora import settings_of_raclora
from rankwise.training.settings.recipe import load_recipe
from tests.tasks.idx_files import write_mnist

LEFT = {"lora_train_B": False, "lora_init_method_A": "zero", "lora_init_method_B": "gaussian"}
RIGHT = {"lora_train_A": False, "lora_init_method_A": "gaussian", "lora_init_method_B": "zero"}


def run_of(config):
    return load_recipe("rac-mnist", settings_of_raclora(config)).run()


def test_the_defaults_are_those_of_the_original_which_is_cola():
    run = run_of({})
    schedule = run.method.schedule
    assert (run.method.name, schedule.side, schedule.sketch) == ("cola", "both", "kaiming")
    assert (schedule.every_epochs, schedule.reset_optimizer) == (1, False)
    assert (run.method.r, run.method.adapter.alpha) == (1, 1)
    training = run.training
    assert (training.learning_rate, training.batch_size, training.epochs) == (2e-4, 128, 50)
    assert training.patience == 10


@pytest.mark.parametrize(
    ("config", "side", "sketch"),
    [
        (LEFT, "left", "gaussian"),
        (RIGHT, "right", "gaussian"),
        (LEFT | {"lora_init_method_B": "kaiming"}, "left", "kaiming"),
    ],
)
def test_one_trained_factor_is_rac_lora_with_the_other_one_sketched(config, side, sketch):
    method = run_of(config).method
    assert method.name == "rac-lora"
    assert (method.schedule.side, method.schedule.sketch) == (side, sketch)


@pytest.mark.parametrize(
    ("key", "value", "where"),
    [
        ("hidden_size", 32, lambda run: run.task.hidden),
        ("lr", 1e-3, lambda run: run.training.learning_rate),
        ("batch_size", 64, lambda run: run.training.batch_size),
        ("max_epochs", 7, lambda run: run.training.epochs),
        ("lora_rank", 4, lambda run: run.method.r),
        ("merge_frequency", 2, lambda run: run.method.schedule.every_epochs),
        ("data_dir", "data", lambda run: str(run.task.data_root)),
    ],
)
def test_a_key_has_its_counterpart(key, value, where):
    assert where(run_of({key: value})) == value


# What the released main.py calls, and the four methods that its README names.
MAIN = {
    "lora_init_method_A": "zero",
    "lora_init_method_B": "gaussian",
    "merge_frequency": 2,
}


@pytest.mark.parametrize(
    ("config", "name", "kind", "side", "every"),
    [
        (MAIN, "cola", "chain", "both-left", 2),
        (MAIN | {"merge_frequency": 0}, "lora", "chain", "both-left", None),
        ({"merge_frequency": 0}, "lora", "chain", "both", None),
        ({}, "cola", "chain", "both", 1),
        (LEFT | {"merge_frequency": 0}, "asymm-lora", "frozen", "left", None),
        (RIGHT | {"merge_frequency": 0}, "asymm-lora", "frozen", "right", None),
        (LEFT, "rac-lora", "chain", "left", 1),
        (RIGHT, "rac-lora", "chain", "right", 1),
    ],
)
def test_lora_cola_asymm_lora_and_rac_lora_are_reached(config, name, kind, side, every):
    method = run_of(config).method
    schedule = method.schedule
    assert (method.name, schedule.kind, schedule.side) == (name, kind, side)
    assert getattr(schedule, "every_epochs", None) == every


@pytest.mark.parametrize("rank", [1, 2, 4, 8])
@pytest.mark.parametrize("config", [LEFT, RIGHT, MAIN], ids=["left", "right", "main"])
def test_the_ranks_of_the_original_work_on_either_side(config, rank, tmp_path):
    overrides = {
        "raclora": {**config, "lora_rank": rank, "max_epochs": 2, "merge_frequency": 1},
        "task": {"data_root": str(write_mnist(tmp_path / "data")), "pretrain_epochs": 1},
    }
    record = train_run(load_recipe("rac-mnist", overrides).run(), tmp_path)
    assert len(record.folds) == 1
    assert 0 <= record.score_validation <= 1


def test_the_configuration_is_a_section_below_other_settings():
    overrides = {"raclora": {"lr": 0.5, "max_epochs": 7}, "training": {"epochs": 3}}
    run = load_recipe("rac-mnist", overrides).run()
    assert (run.training.learning_rate, run.training.epochs) == (0.5, 3)


@pytest.mark.parametrize(
    ("recipe", "config", "message"),
    [
        ("rac-mnist", {"lora_rnk": 1}, "raclora.lora_rnk: unknown setting; did you mean 'lora_ra"),
        ("rac-mnist", {"lora_rank": 0}, "raclora.lora_rank: .* greater than 0, got 0"),
        ("rac-mnist", {"lora_init_method_A": "zero"}, "raclora: both factors begin at zero"),
        ("digits", {"lora_rank": 1}, "raclora: .* got task digits: use it with .* rac-mnist"),
    ],
)
def test_a_section_that_cannot_be_used_is_refused(recipe, config, message):
    with pytest.raises(SettingsError, match=message):
        load_recipe(recipe, {"raclora": config})


def test_the_scaling_stays_though_ours_is_divided_by_the_rank():
    adapter = run_of({"lora_alpha": 2.0, "lora_rank": 4}).method.adapter
    assert adapter.alpha / 4 == 2.0


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"lora_init_method_A": "gaussian", "lora_init_method_B": "gaussian"},
            r"both factors begin at random \(A gaussian, B gaussian\): .* change what the model",
        ),
        (
            {"lora_init_method_A": "zero"},
            "both factors begin at zero: .* nothing can be learned",
        ),
        (RIGHT | {"lora_train_B": False}, "both factors are frozen: nothing can be learned"),
        (LEFT | {"lora_train_A": False, "lora_train_B": True}, "A is zero and frozen: .* train A"),
        ({"lora_init_method_A": "uniform"}, "must be one of zero, gaussian, kaiming, got 'unif"),
        ({"num_workers": 16}, "num_workers 16: the images lie in memory .* leave it out"),
        ({"lora_ranks": 1}, "no key 'lora_ranks'; did you mean 'lora_rank'"),
    ],
)
def test_what_cannot_work_is_refused_with_the_reason(config, message):
    with pytest.raises(SettingsError, match=message):
        settings_of_raclora(config)


def test_the_old_place_is_there_and_names_the_new_one():
    with pytest.warns(DeprecationWarning, match=r"moved to rankwise\.training\.settings\.raclora"):
        old = importlib.import_module("rankwise.training.raclora")
    assert old.settings_of_raclora is settings_of_raclora
