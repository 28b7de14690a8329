"""A base held in four or eight bits is adapted like another; its head stays as it is."""

from __future__ import annotations

import datasets
import pytest
import torch
from torch import nn

from rankwise.core.errors import ModelError, SettingsError
from rankwise.training.build import build_task
from rankwise.training.run import train_run
from rankwise.training.settings.recipe import load_recipe
from tests.models.architectures import llama
from tests.models.saved import make_tokenizer
from tests.tasks.own.own_files import reviews, write_csv

pytestmark = pytest.mark.runs


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A Llama whose sides are multiples of bitsandbytes' blocks."""
    folder = tmp_path_factory.mktemp("llama")
    tokenizer = make_tokenizer([text for text, _ in reviews()], limit=512)
    tokenizer.save_pretrained(folder)
    llama(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
    ).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def run_of(tmp_path, monkeypatch, model):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    file = write_csv(tmp_path / "a.csv", ["text", "label"], reviews())

    def make(method="lora", **task):
        return load_recipe(
            file,
            {
                "task": {"model": model, **task},
                "method": {"name": method, "r": 2},
                "training": {"epochs": 1},
            },
        ).run()

    return make


@pytest.mark.parametrize("quantization", ["nf4", "int8", "int8-torchao"])
def test_a_quantised_base_trains_and_its_head_is_not_quantised(run_of, tmp_path, quantization):
    run = run_of(quantization=quantization)
    base = build_task(run).base_model(tmp_path)
    weight = base.model.layers[0].self_attn.q_proj.weight
    assert type(weight) is not nn.Parameter
    assert type(base.score.weight) is nn.Parameter
    assert base.score.weight.dtype == torch.float32
    record = train_run(run, tmp_path / "out")
    assert record.curve[1].validation_loss != record.curve[0].validation_loss


def test_attention_is_computed_as_said(run_of, tmp_path):
    task = build_task(run_of(attn_implementation="eager", device_map="cpu"))
    assert task.base_model(tmp_path).config._attn_implementation == "eager"
    with pytest.raises(ModelError, match=r"cannot be loaded: .*nothing"):
        build_task(run_of(attn_implementation="nothing")).base_model(tmp_path)


def test_quantised_weights_cannot_train_themselves(run_of):
    with pytest.raises(
        SettingsError, match=r"method 'full' trains the weights themselves, .* 'nf4'"
    ):
        run_of("full", quantization="nf4")
