"""Muon beside AdamW, and PEFT's Riemannian preconditioning, on the groups of any adapter."""

from __future__ import annotations

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.optimizers import create_riemannian_optimizer

from rankwise.core.errors import ModelError
from rankwise.methods.adapters.delora import DeloraConfig
from rankwise.methods.adapters.lora_xs import LoraXSConfig
from rankwise.methods.chain.chain import Chain
from rankwise.methods.factor_optimizers import muon, riemannian
from rankwise.methods.optimizer import parameter_groups

from .test_optimizer import BATCH, Regression, lookup

CONFIGS = {
    "lora": LoraConfig(r=2, target_modules=["body"]),
    "lora_xs": LoraXSConfig(r=2, target_modules=["body"]),
    "delora": DeloraConfig(r=2, target_modules=["body"]),
}
# Before 2.9 PyTorch had none.
with_muon = pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch has no Muon")


def adapted(kind="lora", **options):
    torch.manual_seed(0)
    config = copy.deepcopy(CONFIGS[kind])
    for name, value in options.items():
        setattr(config, name, value)
    return get_peft_model(Regression(), config)


def train(model, optimizer, steps=3):
    for _ in range(steps):
        optimizer.zero_grad()
        model(**BATCH)["loss"].backward()
        optimizer.step()


def values(model):
    return {name: each.detach().clone() for name, each in model.named_parameters()}


@with_muon
def test_factors_alone_take_torchs_own_muon():
    model, twin = adapted(), adapted()
    optimizer = muon(model, parameter_groups(model, lr=0.02, weight_decay=0.1))
    assert type(optimizer) is torch.optim.Muon
    theirs = torch.optim.Muon(
        [p for p in twin.parameters() if p.requires_grad],
        lr=0.02,
        weight_decay=0.1,
        adjust_lr_fn="match_rms_adamw",
    )
    train(model, optimizer)
    train(twin, theirs)
    for name, value in values(twin).items():
        assert torch.equal(values(model)[name], value)


@with_muon
@pytest.mark.parametrize("kind", CONFIGS)
def test_what_is_no_factor_is_adamws(kind):
    model = adapted(kind, modules_to_save=["norm", "head"])
    groups = parameter_groups(model, lr=0.02)
    optimizer = muon(model, groups)
    names = {id(p): name for name, p in model.named_parameters()}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            name = names[id(parameter)]
            is_factor = "body" in name and "lambda" not in name
            assert ("ns_steps" in group) == is_factor, name
    trainable = [p for p in model.parameters() if p.requires_grad]
    held = [p for group in optimizer.param_groups for p in group["params"]]
    assert sorted(map(id, held)) == sorted(map(id, trainable))
    before = model(**BATCH)["loss"].item()
    train(model, optimizer, steps=20)
    assert model(**BATCH)["loss"].item() < before


@with_muon
def test_the_part_of_adamw_moves_as_by_adamw_alone():
    model, twin = (adapted(modules_to_save=["head"]) for _ in range(2))
    optimizer = muon(model, parameter_groups(model, lr=0.02))
    theirs = torch.optim.AdamW(parameter_groups(twin, lr=0.02))
    train(model, optimizer, steps=1)
    train(twin, theirs, steps=1)
    for name, value in values(twin).items():
        if "head" in name:
            assert torch.equal(values(model)[name], value)


@with_muon
def test_a_saved_state_goes_on_to_the_same_bits_and_rates_are_read_anew():
    model = adapted(modules_to_save=["head"])
    optimizer = muon(model, parameter_groups(model, lr=0.02))
    train(model, optimizer)
    twin = copy.deepcopy(model)
    resumed = muon(twin, parameter_groups(twin, lr=1.0))
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for each in (optimizer, resumed):
        for group in each.param_groups:
            group["lr"] = 0.01  # as a schedule does
    train(model, optimizer)
    train(twin, resumed)
    for name, value in values(model).items():
        assert torch.equal(values(twin)[name], value)


@with_muon
def test_tables_of_embeddings_are_adamws():
    model = lookup()
    optimizer = muon(model, parameter_groups(model, lr=0.02))
    names = {id(p): name for name, p in model.named_parameters()}
    held = {names[id(p)]: "ns_steps" in g for g in optimizer.param_groups for p in g["params"]}
    assert all(is_muons == (".body." in name) for name, is_muons in held.items())


@with_muon
def test_a_fold_forgets_its_moments():
    model = adapted(modules_to_save=["head"])
    with Chain(model, side="both") as chain:
        optimizer = muon(model, parameter_groups(model, lr=0.02))
        train(model, optimizer)
        chain.fold(optimizer)
        kept = {id(parameter) for parameter in optimizer.state}
        names = {name for name, p in model.named_parameters() if id(p) in kept}
        assert names
        assert all(".head." in name for name in names)
        train(model, optimizer)
        chain.finish()


@with_muon
def test_without_an_adapter_there_is_nothing_for_it():
    with pytest.raises(ModelError, match="Regression has no adapter whose factors train"):
        muon(Regression(), parameter_groups(Regression(), lr=0.1))


def test_an_older_torch_is_told(monkeypatch):
    monkeypatch.delattr(torch.optim, "Muon", raising=False)
    with pytest.raises(ModelError, match=r"Muon came with torch 2\.9, and this is torch"):
        muon(adapted(), parameter_groups(adapted(), lr=0.1))


def test_preconditioning_is_pefts_on_our_groups():
    model, twin = adapted(), adapted()
    groups = parameter_groups(model, lr=0.01, weight_decay=0.1, b_ratio=4.0)
    optimizer = riemannian(model, groups, torch.optim.AdamW, reg=0.1)
    assert [group["lr"] for group in optimizer.param_groups] == [0.01, 0.04]
    theirs = create_riemannian_optimizer(
        twin, torch.optim.AdamW, lr=0.01, reg=0.1, weight_decay=0.1
    )
    for group in optimizer.param_groups:
        group["lr"] = 0.01
    train(model, optimizer)
    train(twin, theirs)
    plain = adapted()
    train(plain, torch.optim.AdamW(parameter_groups(plain, lr=0.01, weight_decay=0.1)))
    for name, value in values(twin).items():
        torch.testing.assert_close(values(model)[name], value)
    assert any(not torch.equal(values(plain)[name], value) for name, value in values(twin).items())


def test_preconditioning_is_for_two_factors_that_train():
    model = adapted("lora_xs")
    with pytest.raises(ModelError, match=r"riemannian_reg: .* did not find any trainable"):
        riemannian(model, parameter_groups(model, lr=0.1), torch.optim.SGD, reg=0.1)


def test_an_older_peft_is_told(monkeypatch):
    monkeypatch.delattr("peft.optimizers.create_riemannian_optimizer")
    model = adapted()
    with pytest.raises(ModelError, match="has no Riemannian preconditioning"):
        riemannian(model, parameter_groups(model, lr=0.1), torch.optim.SGD, reg=0.1)
