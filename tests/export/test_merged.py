"""Merged weights keep their dtype, and a weight that cannot hold the change is refused."""

from __future__ import annotations

import pytest
import torch
from huggingface_hub import load_torch_model
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM
from transformers.quantizers.quantizer_gguf import GgufHfQuantizer
from transformers.utils.quantization_config import GgufConfig

from rankwise.core.errors import ModelError, SettingsError
from rankwise.export.merged import export_merged
from rankwise.methods.adapters.delora import DeloraConfig
from tests.export.test_lora import TARGETS, Network, X, scrambled
from tests.tasks.generation.generation_files import tiny_llama

CONFIG = LoraConfig(r=2, target_modules=TARGETS)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shard_size", ["5GB", 200])
def test_the_weights_are_read_back_to_the_same_outputs(tmp_path, dtype, shard_size):
    model = scrambled(Network(dtype=dtype), CONFIG)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    export_merged(model, tmp_path / "out", shard_size=shard_size)
    assert (len(list((tmp_path / "out").glob("*.safetensors"))) > 1) == (shard_size == 200)
    fresh = Network(dtype=dtype)
    load_torch_model(fresh, tmp_path / "out", safe=True)
    tolerance = 1e-5 if dtype == torch.float32 else 5e-2
    x = X.to(dtype)
    torch.testing.assert_close(fresh(x), model(x), rtol=tolerance, atol=tolerance)
    assert all(tensor.equal(before[name]) for name, tensor in model.state_dict().items())


def test_a_quantised_weight_and_a_bare_model_are_refused(tmp_path):
    model = scrambled(Network(), CONFIG)
    layer = model.base_model.model.second.base_layer
    layer.weight = nn.Parameter(torch.ones(8, 10, dtype=torch.int8), requires_grad=False)
    with pytest.raises(ModelError, match=r"second is quantised \(torch\.int8\)"):
        export_merged(model, tmp_path / "out")
    with pytest.raises(
        ModelError, match="takes the PeftModel that get_peft_model returns, got Network"
    ):
        export_merged(Network(), tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("config_class", [LoraConfig, DeloraConfig])
def test_a_change_that_overflows_the_weights_is_refused_before_anything_is_written(
    config_class, tmp_path
):
    model = scrambled(Network(dtype=torch.float16), config_class(r=2, target_modules=TARGETS))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name or "lambda" in name:
                parameter.fill_(1e3 if "lora_" in name else 1e9)
    with pytest.raises(ModelError, match="not finite"):
        export_merged(model, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_written_to_its_end_leaves_no_directory(tmp_path):
    class Unwritable:
        def save_pretrained(self, directory):
            raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        export_merged(scrambled(Network(), CONFIG), tmp_path / "out", tokenizer=Unwritable())
    assert not list(tmp_path.iterdir())


def test_a_directory_that_holds_something_is_refused(tmp_path):
    (tmp_path / "kept.txt").write_text("mine")
    with pytest.raises(SettingsError, match="is not empty: choose a new directory"):
        export_merged(scrambled(Network(), CONFIG), tmp_path)
    assert [each.name for each in tmp_path.iterdir()] == ["kept.txt"]


def test_a_base_that_transformers_cannot_write_again_is_refused_by_name(tmp_path):
    base = LlamaForCausalLM.from_pretrained(tiny_llama(tmp_path / "base"))
    base.hf_quantizer = GgufHfQuantizer(GgufConfig())
    model = get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj"]))
    with pytest.raises(ModelError, match="base was read from gguf, which Transformers does not"):
        export_merged(model, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_tokenizer_goes_along(tmp_path):
    folder = tiny_llama(tmp_path / "base")
    base = LlamaForCausalLM.from_pretrained(folder)
    model = scrambled(base, DeloraConfig(r=2, target_modules=["q_proj"]))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    export_merged(model, tmp_path / "out", tokenizer=tokenizer)
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    tokens = AutoTokenizer.from_pretrained(tmp_path / "out")("the request", return_tensors="pt")
    assert tokens["input_ids"].equal(tokenizer("the request", return_tensors="pt")["input_ids"])
    expected = model(tokens["input_ids"]).logits
    torch.testing.assert_close(merged(tokens["input_ids"]).logits, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:You are trying to modify a model with PEFT for a second time")
@pytest.mark.filterwarnings("ignore:Already found a `peft_config` attribute")
def test_a_peft_model_inside_another_is_merged_whole(tmp_path):
    inner = get_peft_model(Network(), LoraConfig(r=2, target_modules=["first"]))
    model = scrambled(inner, LoraConfig(r=3, target_modules=["second"]))
    export_merged(model, tmp_path / "out")
    fresh = Network()
    load_torch_model(fresh, tmp_path / "out", safe=True)
    torch.testing.assert_close(fresh(X), model(X), rtol=1e-5, atol=1e-5)
