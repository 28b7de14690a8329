"""What inits ask of an accelerator: operations to start, and numbers to wait for.

Counted on a CPU, for the update init by the way that an accelerator takes, in a Llama with the
layers of some of the blocks of a large one, and in the same proportions of sizes and of memory.
"""

from __future__ import annotations

import contextlib
from functools import partial

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, LlamaConfig

from rankwise.capture.activations import capture_activations
from rankwise.functional import boundary_layer_weights, boundary_loss, sign_agreement, svd
from rankwise.methods.adapters.fused import fused_lora
from rankwise.methods.adapters.lora_xs import LoraXSConfig
from rankwise.methods.inits import together
from rankwise.methods.inits.boundary import BoundaryMatching
from rankwise.methods.inits.initialize import initialize
from rankwise.methods.inits.update import UpdateApproximation
from tests.launches import counted

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
WIDTH, BLOCKS, LARGE_WIDTH = 128, 8, 4096


def model_and_batch(dtype=torch.bfloat16):
    torch.manual_seed(0)
    sizes = {"hidden_size": WIDTH, "intermediate_size": WIDTH * 7 // 2, "vocab_size": 50}
    config = LlamaConfig(
        **sizes, num_hidden_layers=BLOCKS, num_attention_heads=4, num_key_value_heads=1
    )
    base = AutoModelForCausalLM.from_config(config, dtype=dtype).requires_grad_(False)
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


def monitored(base, forward):
    """The pre-activations of the last half of the blocks, from a pass that ends with them."""
    modules = {str(n): layer.mlp.act_fn for n, layer in enumerate(base.model.layers)}
    return capture_activations(forward, modules, side="input", calls=range(BLOCKS // 2, BLOCKS))


def with_lora(base):
    torch.manual_seed(1)
    return get_peft_model(base, LoraConfig(r=4, target_modules=TARGETS))


def test_a_boundary_step_is_a_cut_pass_with_factors_and_waits_for_its_loss_alone(monkeypatch):
    base, batch = model_and_batch()
    with counted() as (cut_pass, _):
        embeddings = base.get_input_embeddings()(batch["input_ids"]).requires_grad_(True)
        monitored(base, partial(base, inputs_embeds=embeddings))[-1].sum().backward()
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda _: None)  # one operation on a GPU
    counts = []
    for steps in (2, 3):
        model = with_lora(model_and_batch()[0])
        with counted() as (started, asked):
            initialize(model, BoundaryMatching(steps=steps), [{"input_ids": batch["input_ids"]}])
        counts.append((started.total(), asked.total()))
    started, asked = (after - before for before, after in zip(*counts, strict=True))
    # Of a layer two products forward and four back, and no casts.
    assert started <= cut_pass.total() + 6 * len(TARGETS) * BLOCKS + 20 * BLOCKS // 2
    assert asked == 1


def steps_of_plain_autograd(model, forward, steps, lr):
    """Train with wide factors in the layers, each of which is cast by itself."""
    base = model.base_model.model
    parameters = [each for each in model.parameters() if each.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=lr, weight_decay=0.01)
    with torch.no_grad(), model.disable_adapter():
        signs = [values > 0 for values in monitored(base, forward)]
    losses, shares = [], []
    with fused_lora(model.modules()):
        for step in range(steps + 1):
            values = monitored(base, forward)
            if step in (0, steps):
                shares.append([float(sign_agreement([v], [s])) for v, s in zip(values, signs)])
            if step < steps:
                weights = boundary_layer_weights(len(signs))
                loss = boundary_loss(values, signs, margin=0.5, layer_weights=weights)
                losses.append(loss.item())
                found = torch.autograd.grad(loss, parameters, allow_unused=True)
                for parameter, gradient in zip(parameters, found, strict=True):
                    parameter.grad = gradient
                optimizer.step()
    return losses, [*zip(*shares, strict=True)]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, "autocast"])
def test_a_boundary_init_has_every_bit_of_plain_steps(dtype):
    is_cast = dtype == "autocast"
    model, twin = (with_lora(model_and_batch(torch.float32 if is_cast else dtype)[0]) for _ in "ab")
    tokens = {"input_ids": model_and_batch()[1]["input_ids"]}

    def forward(model, batch):
        with torch.autocast("cpu", torch.bfloat16) if is_cast else contextlib.nullcontext():
            return model(**batch).logits

    init = BoundaryMatching(steps=4, lr=0.01)
    outcome = initialize(model, init, [tokens], loss=forward).outcome
    losses, shares = steps_of_plain_autograd(twin.eval(), partial(forward, twin, tokens), 4, 0.01)
    assert outcome.losses == tuple(losses)
    assert [(layer.match_before, layer.match_after) for layer in outcome.monitored] == shares
    for mine, expected in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(mine, expected)
