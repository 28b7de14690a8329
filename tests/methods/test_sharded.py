"""FSDP2 on two processes: init, twenty steps with one fold, save, and the same in one process.

A Trainer under FSDP2 runs unsharded on a CPU without a word, so the loop here is plain and asserts
that parameters are sharded.
"""

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from rankwise.core.errors import ChainError, ModelError
from rankwise.methods.adapters.bridge import adapted_layers, base_weight, factors
from rankwise.methods.adapters.lora_xs import LoraXSConfig
from rankwise.methods.chain.chain import Chain
from rankwise.methods.inits.boundary import BoundaryMatching
from rankwise.methods.inits.initialize import initialize
from rankwise.methods.inits.update import UpdateApproximation
from tests.two_processes import run_in_two

STEPS, FOLD = 20, 10


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        blocks = [nn.Sequential(nn.Linear(8, 8), nn.Tanh()) for _ in range(2)]
        self.blocks, self.head = nn.ModuleList(blocks), nn.Linear(8, 3)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def build(config):
    options = {"r": 2, "target_modules": r"blocks\.\d\.0"}
    torch.manual_seed(1)
    return get_peft_model(Network().double(), config(**options))


def shard(model):
    for block in model.get_base_model().blocks:
        fully_shard(block)
    fully_shard(model)
    assert all(isinstance(parameter, DTensor) for parameter in model.parameters())


def batch(ranks):
    generator = torch.Generator().manual_seed(2)
    x, labels = (
        torch.randn(2, 5, 8, generator=generator, dtype=torch.float64),
        torch.randint(3, (2, 5), generator=generator),
    )
    return x[ranks].reshape(-1, 8), labels[ranks].reshape(-1)


def summed(model, rows):
    x, labels = rows
    return nn.functional.cross_entropy(model(x), labels, reduction="sum")


def train(model, rows, chain=None):
    x, labels = rows
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.05)
    for step in range(STEPS):
        if chain is not None and step == FOLD:
            chain.fold(optimizer)
        nn.functional.cross_entropy(model(x), labels).backward()
        optimizer.step()
        optimizer.zero_grad()


def outputs(model):
    with torch.no_grad():
        return model(batch([0, 1])[0])


def train_core(model, rows):
    """The update init and training of LoRA-XS."""
    initialize(model, UpdateApproximation(lr=0.1, mode="raw"), [rows], loss=summed)
    train(model, rows)
    return outputs(model)


def work_as_one_of_two(rank, folder):
    rows = batch([rank])

    model = build(LoraXSConfig)
    shard(model)
    result = {"core": train_core(model, rows), "adapter numbers": adapter_numbers(model)}
    state = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True))
    if rank == 0:
        model.save_pretrained(folder / "core", state_dict=state)

    model = build(LoraConfig)
    chain = Chain(model, side="left")
    shard(model)
    with pytest.raises(ModelError, match="which a sharded model does not survive"):
        initialize(model, BoundaryMatching(), [rows], loss=summed)
    train(model, rows, chain)
    result["chain"] = outputs(model)
    chain.save(folder / f"chain-{rank}")
    result["factors"] = [
        each.detach() for layer in layers(model) for each in factors(layer, "default")
    ]
    result["weights"] = [base_weight(layer).detach() for layer in layers(model)]
    with pytest.raises(ChainError, match="cannot be finished in a sharded model"):
        chain.finish()
    assert chain.is_open
    return result


def layers(model):
    return adapted_layers(model).values()


def adapter_numbers(model):
    """How many numbers of the adapter, frozen factors included, lie in this process."""
    parts = [part for layer in layers(model) for part in layer.parts("default")]
    return torch.tensor(sum(part.to_local().numel() for part in parts))


def assert_near(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.processes
def test_a_sharded_run_ends_as_one_in_a_single_process_and_is_loaded_there(tmp_path):
    first, second = run_in_two(work_as_one_of_two, tmp_path)
    # R (2, 2), B (8, 2) and A (2, 8) of two layers, half of them in each process.
    assert first["adapter numbers"] == 2 * (2 * 2 + 8 * 2 + 2 * 8) / 2
    for name, value in first.items():
        torch.testing.assert_close(value, second[name], rtol=0, atol=0)

    assert_near(first["core"], train_core(build(LoraXSConfig), batch([0, 1])))
    loaded = PeftModel.from_pretrained(Network().double(), tmp_path / "core")
    assert_near(outputs(loaded), first["core"])

    model = build(LoraConfig)
    chain = Chain(model, side="left")
    train(model, batch([0, 1]), chain)
    assert_near(first["chain"], outputs(model))

    model = build(LoraConfig)
    chain = Chain(model, side="left")
    chain.load(tmp_path / "chain-1")
    assert chain.folds == 1
    torch.testing.assert_close([base_weight(each) for each in layers(model)], first["weights"])
    assert_near(outputs(model), first["chain"])
    chain.finish()
    assert_near(outputs(model), first["chain"])
