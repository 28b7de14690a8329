"""PEFT finds the exported layers again, and no others, whatever they are called."""

from __future__ import annotations

import copy
import json
from functools import partial

import pytest
import torch
from peft import PeftModel, get_peft_model
from torch import nn
from transformers import AutoModelForCausalLM

from rankwise.core.errors import ModelError
from rankwise.export.lora import export_lora
from rankwise.export.targets import Targets, find_targets
from rankwise.methods.adapters.delora import DeloraConfig
from tests.export.test_lora import scrambled
from tests.models.adapters import OURS
from tests.models.architectures import from_config
from tests.models.more_families import EXPERTS, base

TOKENS = torch.arange(16).reshape(2, 8)
ROUTED = {**EXPERTS, "n_routed_experts": 4, "n_shared_experts": 1, "first_k_dense_replace": 1}
LATENT = {
    "q_lora_rank": 8,
    "kv_lora_rank": 8,
    "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 4,
    "v_head_dim": 8,
}
# Their first block has a dense MLP, the second one experts.
DENSE_FIRST = {
    "qwen3_moe": partial(base, "qwen3_moe"),
    "deepseek_v3": partial(base, "deepseek_v3"),
    "deepseek_v2": partial(
        from_config,
        AutoModelForCausalLM,
        "deepseek_v2",
        **ROUTED | LATENT | {"num_key_value_heads": 2, "n_group": 2, "topk_group": 1},
    ),
    "glm4_moe": partial(from_config, AutoModelForCausalLM, "glm4_moe", **ROUTED, head_dim=8),
}
# Dense blocks and shared experts, whatever is done with the routed ones.
DENSE = r".*\.(q_proj|o_proj|(mlp|shared_experts)\.(gate_proj|up_proj|down_proj))"


@pytest.mark.parametrize("family", DENSE_FIRST)
@pytest.mark.parametrize("kind", OURS)
def test_dense_blocks_are_not_taken_for_experts(kind, family, tmp_path):
    model = scrambled(DENSE_FIRST[family](), OURS[kind](r=2, target_modules=DENSE))
    export_lora(model, tmp_path / "out")
    written = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert "model.layers.0.mlp.gate_proj.weight" in written["target_parameters"]
    loaded = PeftModel.from_pretrained(DENSE_FIRST[family](), tmp_path / "out").eval()
    with torch.no_grad():
        expected, plain = model(TOKENS).logits, DENSE_FIRST[family]()(TOKENS).logits
        assert (expected - plain).abs().max() > 1e-3
        torch.testing.assert_close(loaded(TOKENS).logits, expected, rtol=1e-4, atol=1e-5)


def test_half_of_what_was_fused_is_named_by_its_weight_too():
    targets = find_targets(base("qwen3_moe"), ["model.layers.0.mlp.up_proj", "lm_head"])
    assert targets == Targets(["lm_head"], ["model.layers.0.mlp.up_proj.weight"], None)


def test_a_weight_that_peft_cannot_tell_from_another_is_refused():
    model = base("qwen3_moe")
    model.copy = nn.Module()
    model.copy.model = copy.deepcopy(model.model)
    with pytest.raises(ModelError, match=r"adapt copy\.model\.layers\.0\.mlp\.up_proj\.weight too"):
        find_targets(model, ["model.layers.0.mlp.up_proj"])


class Nested(nn.Module):
    """Layers whose names are the ends of one another's."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.proj = nn.Linear(6, 6)
        self.deep, self.other = nn.Module(), nn.Module()
        self.deep.proj = nn.Linear(6, 6)
        self.other.deep = nn.Module()
        self.other.deep.proj = nn.Linear(6, 6)

    def forward(self, x):
        return self.other.deep.proj(torch.tanh(self.deep.proj(torch.tanh(self.proj(x)))))


@pytest.mark.parametrize(
    ("adapted", "excluded"),
    [
        ("proj", r"deep\.proj|other\.deep\.proj"),
        (r"deep\.proj", r"other\.deep\.proj"),
        (r"proj|other\.deep\.proj", r"deep\.proj"),
        (r".*proj", None),
    ],
)
def test_a_name_that_is_the_end_of_others_adapts_its_own_layer_alone(adapted, excluded, tmp_path):
    model = scrambled(Nested(), DeloraConfig(r=2, target_modules=adapted))
    export_lora(model, tmp_path / "out")
    written = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert written["exclude_modules"] == excluded
    x = torch.randn(3, 6)
    loaded = PeftModel.from_pretrained(Nested(), tmp_path / "out").eval()
    torch.testing.assert_close(loaded(x), model(x), rtol=1e-5, atol=1e-6)


def test_more_names_than_peft_lists_are_told_apart_too(tmp_path):
    """PEFT shortens a list of 20 names or more to what the layers' names have in common."""
    base = nn.Module()
    base.blocks = nn.ModuleList(nn.ModuleDict({"proj": nn.Linear(4, 4)}) for _ in range(24))
    base.extra = nn.Module()
    base.extra.blocks = nn.ModuleList([nn.ModuleDict({"proj": nn.Linear(4, 4)})])
    config = DeloraConfig(r=2, target_modules=r"blocks\.\d+\.proj")
    export_lora(get_peft_model(base, config), tmp_path / "out")
    written = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert len(written["target_modules"]) == 24
    assert written["exclude_modules"] == r"extra\.blocks\.0\.proj"
