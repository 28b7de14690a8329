"""Directions alone, placed ranks and optimizers of factors, as settings of whole runs."""

from __future__ import annotations

import argparse
import itertools
import json

import pytest
import torch
from peft import PeftModel
from pydantic import ValidationError

from rankwise.cli.main import main
from rankwise.cli.planning import with_budget
from rankwise.core.errors import SettingsError
from rankwise.methods.adapters.bridge import adapted_layers, delta, rank
from rankwise.methods.factor_optimizers import MuonBesideAdamW
from rankwise.tasks.digits import DigitsTask
from rankwise.training.finished import FinishedRun, score_test
from rankwise.training.folder import RunFolder
from rankwise.training.initialization import initialize_adapter
from rankwise.training.job import prepare_job
from rankwise.training.loops.optimization import build_optimizer
from rankwise.training.probes.dry_run import count_run
from rankwise.training.records import RunRecord
from rankwise.training.run import train_run
from rankwise.training.settings.adapters import LoraSettings
from rankwise.training.settings.federated import FederatedSettings
from rankwise.training.settings.federation_plan import Plan
from rankwise.training.settings.recipe import load_recipe
from rankwise.training.together import run_all_and_record

PLACED = {"rank_budget": 300}
with_muon = pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch has no Muon")


def ranks_of(model):
    return [rank(layer, "default") for layer in adapted_layers(model).values()]


# Directions alone ---------------------------------------------------------------------------------


UPDATE, ZERO = {"kind": "update"}, {"kind": "update", "mode": "raw", "start": "zero"}
BOUNDARY = {"kind": "boundary", "steps": 2, "learning_rate": 1e-2}
INITS = {"update": UPDATE, "zero": ZERO, "boundary": BOUNDARY}
STAYS_AT_ZERO = {(name, "zero") for name in ("lora", "lora-xs", "delora")} | {("delora", "update")}


CELLS = set(itertools.product(("lora", "lora-xs", "delora"), INITS, ("own", "random")))
REFUSED = {("delora", "boundary", "random")}  # below


@pytest.mark.parametrize(("name", "init", "directions"), sorted(CELLS - REFUSED))
def test_every_init_goes_with_every_adapter(settings, output, tmp_path, name, init, directions):
    method = {"init": INITS[init] | {"directions": directions}}
    job = prepare_job(settings(name, method=method), output / "base")
    initialize_adapter(job, RunFolder(tmp_path, tmp_path))
    changes = [delta(layer, "default") for layer in adapted_layers(job.model).values()]
    # What is matched comes before the last layer, which stays.
    assert any(change.any() for change in changes) != ((name, init) in STAYS_AT_ZERO)


def test_directions_alone_have_no_sizes_to_lay_anywhere(settings):
    init = {"start": "zero", "orthonormal": False}
    with pytest.raises(SettingsError, match=r"method\.init: .*give one of the two"):
        settings("lora-sb", method={"init": init})


def test_a_matched_delora_has_no_control_of_its_magnitude(settings):
    init = {"kind": "boundary", "directions": "random"}
    with pytest.raises(SettingsError, match="no DeLoRA has that of a matched one"):
        settings("delora", method={"init": init})


# Placed ranks -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["lora", "lora-sb", "delora", "asymm-lora", "rac-lora"])
def test_a_run_places_its_ranks_within_the_budget_and_is_opened_again(settings, output, name):
    run = settings(name, r=8, method={"adapter": PLACED}, epochs=1)
    record = train_run(run, output)
    assert 150 < record.trainable_parameters <= 300
    job = prepare_job(run, output / "base")
    if run.method.schedule.kind == "single":  # of a chain one LoRA of one rank is left
        opened = FinishedRun.below(output, run.name).trained_model()
        assert ranks_of(opened) == ranks_of(job.model)
    assert 0 <= score_test(run, output).score_test <= 1


def test_the_control_places_them_by_the_seed(settings, output):
    adapter = PLACED | {"rank_placement": "random"}
    found = [
        ranks_of(prepare_job(settings("lora", r=8, seed=seed, method={"adapter": adapter}),
                             output / "base").model)
        for seed in range(4)
    ]  # fmt: skip
    assert len(set(map(tuple, found))) > 1


def test_runs_of_other_ranks_are_trained_together_by_shape(settings, output, tmp_path):
    """Each seed draws its own ranks; a run ends where it ends alone."""
    adapter = PLACED | {"rank_placement": "random"}
    runs = [
        settings("lora", r=8, seed=seed, loop="lean", learning_rate=rate,
                 method={"adapter": adapter}, epochs=1)
        for seed in range(3) for rate in (1e-3, 1e-2)
    ]  # fmt: skip
    records = run_all_and_record(runs, output)
    assert all(isinstance(each, RunRecord) and each.trained_together >= 2 for each in records)
    (tmp_path / "alone").mkdir()
    (tmp_path / "alone" / "base").symlink_to(output / "base")
    for run, record in zip(runs[::3], records[::3], strict=True):
        alone = train_run(run, tmp_path / "alone")
        assert isinstance(record, RunRecord)
        assert record.curve[-1].validation_loss == pytest.approx(
            alone.curve[-1].validation_loss, rel=1e-4
        )


def test_a_rehearsal_counts_them_without_a_gradient(settings):
    counted = count_run(settings("lora", r=8, method={"adapter": PLACED})).parameters.adapter
    assert 200 < counted <= 300


def test_init_writes_them_from_the_command_line(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["init", "digits", "--budget", "300", "--output", "start", "--method.r", "8"]
    assert main([*words, "--task.pretrain_epochs", "2"]) == 0
    assert "ranks placed: 300 parameters at most" in " ".join(capsys.readouterr().out.split())
    config = json.loads((tmp_path / "start" / "adapter_config.json").read_text())
    assert sorted(config["rank_pattern"]) == sorted(config["target_modules"])
    base = DigitsTask(pretrain_epochs=2).base_model(tmp_path / "start" / "base")
    model = PeftModel.from_pretrained(base, str(tmp_path / "start"), is_trainable=True)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert 200 < trained <= 300


@pytest.mark.parametrize(
    ("adapter", "message"),
    [
        ({"rank_samples": 3}, "have no effect without rank_budget"),
        ({"rank_placement": "random"}, "have no effect without rank_budget"),
    ],
)
def test_settings_of_ranks_that_do_not_go_together_are_refused(settings, adapter, message):
    with pytest.raises(SettingsError, match=message):
        settings("lora", method={"adapter": adapter})


def test_a_budget_that_is_too_small_is_refused_with_its_place(settings, output):
    run = settings("lora", method={"adapter": {"rank_budget": 10}})
    with pytest.raises(SettingsError, match=r"method\.adapter\.rank_budget: a budget of 10"):
        prepare_job(run, output / "base")


def test_a_federation_places_none(settings):
    run = settings("lora", method={"adapter": PLACED})
    with pytest.raises(ValidationError, match="which nobody in a federation has"):
        Plan(run=run, federated=FederatedSettings())


# Optimizers of factors ----------------------------------------------------------------------------


@with_muon
@pytest.mark.parametrize("name", ["lora", "rac-lora", "delora", "lora-sb"])
@pytest.mark.parametrize("loop", ["lean", "trainer"])
def test_muon_trains_every_adapter_in_both_loops(settings, output, name, loop):
    method = {"schedule": {"every_epochs": 1}} if name == "rac-lora" else {}
    run = settings(name, method=method, loop=loop, optimizer="muon", learning_rate=0.02)
    record = train_run(run, output)
    assert record.curve[-1].validation_loss < record.curve[0].validation_loss


@with_muon
def test_muon_is_torchs_own_unless_something_else_trains(settings, output):
    kinds = []
    for name in ("lora", "delora", "full"):
        run = settings(name, optimizer="muon")
        kinds.append(type(build_optimizer(prepare_job(run, output / "base").model, run)))
    assert kinds == [torch.optim.Muon, MuonBesideAdamW, torch.optim.AdamW]


@pytest.mark.parametrize("loop", ["lean", "trainer"])
def test_riemannian_preconditioning_is_a_setting(settings, output, loop):
    adapter = {"riemannian_reg": 0.1}
    run = settings("lora", method={"adapter": adapter}, loop=loop, learning_rate=1e-2)
    record = train_run(run, output)
    assert record.curve[-1].validation_loss < record.curve[0].validation_loss


@pytest.mark.parametrize(
    ("name", "adapter", "optimizer", "message"),
    [
        ("lora", {"riemannian_reg": 0.1}, "muon", "leave one out"),
        ("rac-lora", {"riemannian_reg": 0.1}, "adamw", "needs both factors to train"),
        ("asymm-lora", {"riemannian_reg": 0.1}, "adamw", "needs both factors to train"),
    ],
)
def test_what_would_have_no_effect_is_refused(settings, name, adapter, optimizer, message):
    with pytest.raises(SettingsError, match=message):
        settings(name, method={"adapter": adapter}, optimizer=optimizer)


def test_a_comparison_under_one_budget_places_ranks_under_it():
    chosen = {"methods": ["lora", "placed"], "budgets": ["300"]}
    recipe = load_recipe("compositions", {"compare": chosen})
    arguments = argparse.Namespace(budget=600.0, recipe="compositions")
    compared = with_budget(recipe, arguments).compare
    assert compared is not None
    lora, placed = compared.chosen_methods
    assert lora.r == 1
    assert isinstance(placed.adapter, LoraSettings)
    assert (placed.r, placed.adapter.rank_budget) == (4, 600)
    assert lora.budget == placed.budget == "600"
