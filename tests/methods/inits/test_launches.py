"""What the update init asks of an accelerator: operations to start, and numbers to wait for.

Counted on a CPU, by the way that an accelerator takes, in a Llama with the layers of some of the
blocks of a large one, and in the same proportions of sizes and of memory.
"""

from __future__ import annotations

import pytest
import torch
from peft import get_peft_model
from transformers import AutoModelForCausalLM, LlamaConfig

from rankwise.functional import svd
from rankwise.methods.adapters.lora_xs import LoraXSConfig
from rankwise.methods.inits import together
from rankwise.methods.inits.initialize import initialize
from rankwise.methods.inits.update import UpdateApproximation
from tests.launches import counted

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
WIDTH, BLOCKS, LARGE_WIDTH = 128, 8, 4096


def model_and_batch():
    torch.manual_seed(0)
    sizes = {"hidden_size": WIDTH, "intermediate_size": WIDTH * 7 // 2, "vocab_size": 50}
    config = LlamaConfig(
        **sizes, num_hidden_layers=BLOCKS, num_attention_heads=4, num_key_value_heads=1
    )
    base = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).requires_grad_(False)
    tokens = torch.randint(50, (2, 16))
    return base, {"input_ids": tokens, "labels": tokens}


@pytest.fixture
def proportions(monkeypatch):
    """Memory for groups in proportion to the width, and no matrix that is decomposed exactly."""
    monkeypatch.setattr(svd, "EXACT_SIDE", 0)
    for name in ("WAITING_BYTES", "FACTORED_BYTES"):
        monkeypatch.setattr(together, name, getattr(together, name) * WIDTH**2 // LARGE_WIDTH**2)


@pytest.mark.parametrize("mode", ["sign", "raw"])
@pytest.mark.usefixtures("proportions")
def test_layers_start_few_operations_each_and_are_waited_for_in_groups(mode):
    base, batch = model_and_batch()
    with counted() as (frozen_pass, _):
        embeddings = base.get_input_embeddings()(batch["input_ids"]).requires_grad_(True)
        base(inputs_embeds=embeddings, labels=batch["labels"], use_cache=False).loss.backward()
    model = get_peft_model(base, LoraXSConfig(r=4, target_modules=TARGETS, init_weights=False))
    init = UpdateApproximation(lr=1e-4, mode=mode, decomposition="wide")
    with counted() as (started, asked):
        initialize(model, init, [batch])
    layers = len(TARGETS) * BLOCKS
    # The pass itself, and what its blocks make again, are not for the init to change.
    assert started.total() <= 1.6 * frozen_pass.total() + 45 * layers, started
    # Some twelve or more a layer where each is looked at by itself.
    assert asked.total() <= 1.2 * layers, asked
