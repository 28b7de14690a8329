"""Parameter groups: what decays, what has a rate of its own; in a plain loop and in the Trainer."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import Trainer, TrainingArguments

from rankwise.core.errors import ModelError, SettingsError
from rankwise.methods.adapters.delora import DeloraConfig
from rankwise.methods.adapters.lora_xs import LoraXSConfig
from rankwise.methods.optimizer import parameter_groups


class Regression(nn.Module):
    """A network that the Trainer can train: a layer to adapt, a norm, a head."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body, self.norm, self.head = nn.Linear(4, 6), nn.LayerNorm(6), nn.Linear(6, 1)

    def forward(self, x, labels):
        predictions = self.head(self.norm(self.body(x))).squeeze(-1)
        return {"loss": (predictions - labels).square().mean(), "logits": predictions}


ROWS = [{"x": torch.randn(4), "labels": torch.ones(())} for _ in range(8)]
BATCH = {key: torch.stack([row[key] for row in ROWS]) for key in ("x", "labels")}


def delora(**options):
    config = DeloraConfig(r=2, target_modules=["body"], modules_to_save=["norm", "head"], **options)
    return get_peft_model(Regression(), config)


def strength(model):
    return model.base_model.model.body.parts("default")[2]


def test_matrices_decay_and_vectors_and_strengths_do_not():
    model = delora()
    matrices, vectors, strengths = parameter_groups(
        model, lr=1e-2, lambda_lr=5e-3, weight_decay=0.1
    )
    assert [p.ndim for p in matrices["params"]] == [2, 2, 2]  # A, B and the head's weight
    assert [p.ndim for p in vectors["params"]] == [1, 1, 1]  # the norm's two and the head's bias
    assert [p is strength(model) for p in strengths["params"]] == [True]
    rates = [(group["lr"], group["weight_decay"]) for group in (matrices, vectors, strengths)]
    assert rates == [(1e-2, 0.1), (1e-2, 0.0), (5e-3, 0.0)]


def test_every_trainable_parameter_is_in_one_group():
    model = delora()
    grouped = [p for group in parameter_groups(model, lr=1e-2) for p in group["params"]]
    trainable = [p for p in model.parameters() if p.requires_grad]
    assert sorted(map(id, grouped)) == sorted(map(id, trainable))


def test_the_rate_of_strengths_is_lr_by_default():
    assert [group["lr"] for group in parameter_groups(delora(), lr=1e-2)] == [1e-2] * 3


@pytest.mark.parametrize("config_class", [LoraConfig, LoraXSConfig])
def test_an_adapter_without_strengths_is_one_group(config_class):
    model = get_peft_model(Regression(), config_class(r=2, target_modules=["body"]))
    (group,) = parameter_groups(model, lr=1e-3, weight_decay=0.2)
    assert group["weight_decay"] == 0.2
    assert group["params"] == [p for p in model.parameters() if p.requires_grad]


def test_a_plain_loop_moves_the_strength_at_its_own_rate_and_without_decay():
    model = delora()
    optimizer = torch.optim.AdamW(parameter_groups(model, lr=0.0, lambda_lr=0.5, weight_decay=9.0))
    nn.init.normal_(model.base_model.model.body.parts("default")[0])
    model(**BATCH)["loss"].backward()
    optimizer.step()
    assert abs(strength(model).item() - 15.0) == pytest.approx(0.5, rel=1e-4)


def test_the_stock_trainer_takes_the_optimizer(tmp_path):
    model = delora()
    optimizer = torch.optim.AdamW(parameter_groups(model, lr=1e-2, lambda_lr=5e-3))
    arguments = TrainingArguments(
        output_dir=str(tmp_path),
        max_steps=3,
        per_device_train_batch_size=4,
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        save_strategy="no",
    )
    before = strength(model).item()
    trainer = Trainer(model, arguments, train_dataset=ROWS, optimizers=(optimizer, None))
    trainer.train()
    assert [group["initial_lr"] for group in optimizer.param_groups] == [1e-2, 1e-2, 5e-3]
    assert 0 < abs(strength(model).item() - before) <= 3 * 5e-3 * 1.1


def test_a_rate_for_strengths_that_do_not_train_is_refused():
    for model in (delora(learn_lambda=False), Regression()):
        with pytest.raises(SettingsError, match=r"lambda_lr is 0\.1, but no strength λ trains"):
            parameter_groups(model, lr=1e-2, lambda_lr=0.1)


class Lookup(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.body = nn.Embedding(5, 4), nn.Linear(4, 6)

    def forward(self, tokens):
        return self.body(self.embed(tokens))


def lookup():
    config = LoraConfig(r=2, target_modules=["embed", "body"])
    return get_peft_model(Lookup(), config)


def test_lora_plus_gives_the_left_factors_their_rate_those_of_embeddings_too():
    model = lookup()
    matrices, lefts = parameter_groups(model, lr=1e-3, b_ratio=16.0)
    names = {id(p): name for name, p in model.named_parameters()}
    assert all("_A." in names[id(p)] for p in matrices["params"])
    assert all("_B." in names[id(p)] for p in lefts["params"])
    assert [(len(g["params"]), g["lr"]) for g in (matrices, lefts)] == [(2, 1e-3), (2, 16e-3)]


def test_both_factors_of_an_embedding_may_have_a_rate_of_their_own():
    matrices, lefts, embeddings = parameter_groups(
        lookup(), lr=1e-3, b_ratio=4.0, embedding_lr=1e-6
    )
    assert [len(group["params"]) for group in (matrices, lefts, embeddings)] == [1, 1, 2]
    assert [group["lr"] for group in (matrices, lefts, embeddings)] == [1e-3, 4e-3, 1e-6]


def test_the_left_factor_of_delora_is_one_too():
    matrices, lefts, _, _ = parameter_groups(delora(), lr=1e-3, b_ratio=2.0)
    assert [p.shape for p in lefts["params"]] == [(6, 2)]
    assert len(matrices["params"]) == 2


def test_rates_for_what_does_not_train_are_refused():
    core = get_peft_model(Regression(), LoraXSConfig(r=2, target_modules=["body"]))
    with pytest.raises(SettingsError, match=r"b_ratio is 4\.0, but no factor B trains"):
        parameter_groups(core, lr=1e-3, b_ratio=4.0)
    with pytest.raises(SettingsError, match="but no adapter of an embedding trains"):
        parameter_groups(core, lr=1e-3, embedding_lr=1e-6)


@pytest.mark.parametrize("name", ["lr", "lambda_lr", "weight_decay", "b_ratio", "embedding_lr"])
def test_negative_numbers_are_refused(name):
    with pytest.raises(SettingsError, match=rf"{name} must not be negative, got -1"):
        parameter_groups(delora(), **{"lr": 1e-2, name: -1})


def test_a_model_that_does_not_train_is_refused():
    with pytest.raises(ModelError, match="no trainable parameter"):
        parameter_groups(Regression().requires_grad_(False), lr=1e-2)
