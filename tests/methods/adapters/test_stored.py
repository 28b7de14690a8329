"""Adapters that version 0.1 has written (commit 7b4848f): they compute what they computed there.

``stored/`` holds, for the network of ``tests/models/networks.py``, adapters of both kinds with a
trained head, ranks by a pattern and a second adapter; one of each kind over a bfloat16 base; the
state dict of a whole model; and the directory of a chain that was open. ``outputs.safetensors`` has
an input and what each gave for it.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from peft import PeftModel, set_peft_model_state_dict
from safetensors.torch import load_file

from rankwise.methods.adapters.directory import check_adapter_directory
from rankwise.methods.adapters.switching import active_adapter, loaded_adapter
from rankwise.methods.chain.chain import Chain
from tests.models.adapters import attach
from tests.models.networks import Network

STORED = Path(__file__).parent / "stored"
OUTPUTS = load_file(STORED / "outputs.safetensors")
X = OUTPUTS["x"]
KINDS = pytest.mark.parametrize("kind", ["lora_xs", "delora"])


def assert_outputs(model, name, dtype=torch.float32):
    tolerance = {torch.float32: 1e-5, torch.bfloat16: 3e-2}[dtype]
    with torch.no_grad():
        actual = model.eval()(X.to(dtype)).float()
    torch.testing.assert_close(actual, OUTPUTS[name], rtol=tolerance, atol=tolerance)
    assert not torch.allclose(actual, Network()(X), rtol=0, atol=5e-3)


@pytest.mark.parametrize("low_cpu_mem_usage", [False, True])
@KINDS
def test_a_directory_with_a_head_and_a_second_adapter_loads(kind, low_cpu_mem_usage):
    options = {"low_cpu_mem_usage": low_cpu_mem_usage}
    model = PeftModel.from_pretrained(Network(), STORED / kind, **options)
    model.load_adapter(STORED / kind / "other", adapter_name="other", **options)
    for name in ("default", "other"):
        model.set_adapter(name)
        assert_outputs(model, f"{kind}.{name}")


@KINDS
def test_a_directory_over_a_bfloat16_base_loads(kind):
    model = PeftModel.from_pretrained(Network(dtype=torch.bfloat16), STORED / f"{kind}_bfloat16")
    assert_outputs(model, f"{kind}_bfloat16.default", torch.bfloat16)


@KINDS
def test_its_tensors_are_read_under_the_names_of_today(kind):
    tensors = check_adapter_directory(STORED / kind)
    model = PeftModel.from_pretrained(Network(), STORED / kind)
    layer_names = [name for name in tensors if "rankwise" in name]
    assert layer_names
    assert all(name.endswith(".weight") for name in layer_names)
    fresh = attach(kind, modules_to_save=["head"], rank_pattern={"second": 2}, **options_of(kind))
    set_peft_model_state_dict(fresh, tensors)
    torch.testing.assert_close(fresh(X), model(X), rtol=0, atol=0)


def options_of(kind):
    return {"lora_alpha": 6} if kind == "lora_xs" else {"lambda_pattern": {"second": 4.0}}


@KINDS
def test_it_is_lent_to_a_model_for_a_moment(kind):
    model = attach(kind)
    with loaded_adapter(model, STORED / kind / "other") as name, active_adapter(model, name):
        assert_outputs(model, f"{kind}.other")


def test_the_state_dict_of_a_whole_model_loads():
    model = PeftModel.from_pretrained(Network(), STORED / "lora_xs")
    model.load_adapter(STORED / "lora_xs" / "other", adapter_name="other")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    model.load_state_dict(load_file(STORED / "lora_xs_state_dict.safetensors"))
    for name in ("default", "other"):
        model.set_adapter(name)
        assert_outputs(model, f"lora_xs.{name}")


def test_an_open_chain_is_loaded_and_finished(tmp_path):
    shutil.copytree(STORED / "open_chain", tmp_path / "chain")
    model = attach("lora", lora_alpha=6)
    chain = Chain(model, side="left", seed=3)
    chain.load(tmp_path / "chain")
    assert_outputs(model, "open_chain.default")
    chain.finish()
    assert_outputs(model, "open_chain.default")
