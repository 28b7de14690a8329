"""What llama.cpp's converter stops at is set apart, and the factors stay as they were."""

from __future__ import annotations

import json

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file

from rankwise.export.gguf import HEAD, make_gguf_ready
from rankwise.export.lora import export_lora
from tests.export.test_lora import Network


def test_a_head_goes_beside_the_adapter(tmp_path):
    config = LoraConfig(r=2, target_modules=["first", "second"], modules_to_save=["head"])
    export_lora(get_peft_model(Network(), config), tmp_path / "out")
    before = load_file(tmp_path / "out" / "adapter_model.safetensors")
    apart = make_gguf_ready(tmp_path / "out")
    assert apart == ["base_model.model.head.bias", "base_model.model.head.weight"]
    after = load_file(tmp_path / "out" / "adapter_model.safetensors")
    beside = load_file(tmp_path / "out" / HEAD)
    assert all(".lora_" in key for key in after)
    assert {**after, **beside}.keys() == before.keys()
    assert all(torch.equal(value, before[key]) for key, value in {**after, **beside}.items())
    written = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert written["modules_to_save"] is None
