"""A directory saved amid a chain: marked, complete, and never taken for a plain LoRA."""

import dataclasses
import json

import pytest
import torch
from peft import LoraConfig, PeftConfig, PeftModel
from safetensors.torch import load_file

from rankwise.core.errors import AdapterError, ChainError
from rankwise.methods.chain.chain import Chain
from rankwise.methods.chain.config import ChainConfig
from rankwise.methods.chain.ledger import FILE_NAME
from tests.models.chains import build, chained, layers, outputs

UNFINISHED = "unfinished chain.*Resume its training, or make the chain anew"


@pytest.mark.parametrize("adapter_name", ["default", "task"])
def test_saving_amid_a_chain_writes_the_block_the_ledger_and_the_mark(tmp_path, adapter_name):
    model = build()
    if adapter_name == "task":
        model = PeftModel(model.unload(), LoraConfig(r=2, target_modules=["first"]), "task")
    model.set_adapter(adapter_name)
    Chain(model, adapter_name=adapter_name)
    model.save_pretrained(tmp_path)
    folder = tmp_path if adapter_name == "default" else tmp_path / "task"
    assert json.loads((folder / "adapter_config.json").read_text())["peft_type"] == "RANKWISE_CHAIN"
    block = load_file(folder / "adapter_model.safetensors")
    sketch = model.get_submodule("base_model.model.first").lora_B[adapter_name].weight
    assert torch.equal(block["base_model.model.first.lora_B.weight"], sketch)
    assert (folder / FILE_NAME).is_file()


def test_the_config_names_nothing_that_a_loader_could_take_for_a_lora(tmp_path):
    model = build()
    chained(model)
    model.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "adapter_config.json").read_text())
    assert not saved.keys() & {"r", "lora_alpha", "target_modules"}


@pytest.mark.parametrize(
    "load",
    [
        lambda path: PeftModel.from_pretrained(build().unload(), path),
        lambda path: PeftConfig.from_pretrained(path),
        lambda path: build().load_adapter(path, "second"),
    ],
)
def test_loading_it_as_an_adapter_is_refused(tmp_path, load):
    model = build()
    chained(model)
    model.save_pretrained(tmp_path)
    with pytest.raises(AdapterError, match=UNFINISHED):
        load(tmp_path)


def test_deriving_another_config_from_it_is_refused():
    model = build()
    chained(model)
    with pytest.raises(AdapterError, match=UNFINISHED):
        dataclasses.replace(model.peft_config["default"], r=4)


def test_a_directory_saved_amid_a_chain_brings_the_chain_back(tmp_path):
    model = build()
    chained(model)
    model.save_pretrained(tmp_path)
    again = build()
    chain = Chain(again)
    chain.load(tmp_path)
    assert torch.equal(outputs(again), outputs(model))
    chain.finish()
    again.save_pretrained(tmp_path)
    assert type(PeftConfig.from_pretrained(tmp_path)) is LoraConfig


def test_an_adapter_beside_the_chain_saves_as_the_lora_it_is(tmp_path):
    model = PeftModel(build().unload(), LoraConfig(r=2, target_modules=["first"]), "default")
    model.add_adapter("other", LoraConfig(r=2, target_modules=["first"]))
    Chain(model)
    model.save_pretrained(tmp_path, selected_adapters=["other"])
    assert type(PeftConfig.from_pretrained(tmp_path / "other")) is LoraConfig


def test_a_finished_config_keeps_what_it_was_given():
    model = build(lora_dropout=0.25)
    chained(model, folds=1).finish()
    config = model.peft_config["default"]
    assert type(config) is LoraConfig
    assert (config.r, config.lora_alpha, config.lora_dropout) == (4, 4, 0.25)
    assert all(layer.r["default"] == 4 for layer in layers(model).values())


def test_the_users_own_config_is_left_alone():
    config = LoraConfig(r=2, lora_alpha=6, target_modules=["first"])
    model = PeftModel(build().unload(), config)
    before = dict(vars(config))
    chain = chained(model, folds=1)
    assert type(model.peft_config["default"]) is ChainConfig
    chain.finish()
    assert model.peft_config["default"].r == 4
    assert type(config) is LoraConfig
    assert vars(config) == before


def test_saving_through_a_chain_that_is_over_is_no_business_of_it(tmp_path):
    model = build()
    chain = chained(model)
    chain.finish()
    model.save_pretrained(tmp_path)
    assert not (tmp_path / FILE_NAME).exists()
    with pytest.raises(ChainError, match="is over"):
        chain.save(tmp_path)
