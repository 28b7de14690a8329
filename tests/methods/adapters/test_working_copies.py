"""Working copies of factors: what layers compute with in the place of masters, bit for bit."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from torch.utils.checkpoint import checkpoint

from rankwise.methods.adapters.fused import fuse, fused_lora
from rankwise.methods.adapters.working_copies import WorkingCopies

HALF = torch.bfloat16


class Repeated(nn.Module):
    """Calls its first layer three times, and its last one never."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.last = (nn.Linear(6, 6) for _ in range(3))

    def forward(self, x):
        for _ in range(3):
            x = self.first(x).relu() + x
        return self.second(x)


def adapted(dtype=HALF):
    torch.manual_seed(0)
    config = LoraConfig(r=2, target_modules=["first", "second", "last"], init_lora_weights=False)
    return get_peft_model(Repeated().to(dtype), config)


def masters(model):
    return [each for each in model.parameters() if each.requires_grad]


def loss(model, dtype=HALF):
    rows = torch.randn(5, 6, generator=torch.Generator().manual_seed(1))
    return model(rows.to(dtype)).float().square().sum()


def expected(model):
    with fused_lora(model.modules()):
        return torch.autograd.grad(loss(model), masters(model), allow_unused=True)


def same(mine, theirs):
    pairs = zip(mine, theirs, strict=True)
    return all(m is t is None or (m.dtype == t.dtype and torch.equal(m, t)) for m, t in pairs)


def test_gradients_are_those_of_layers_that_round_masters_themselves():
    model = adapted()
    copies = WorkingCopies(masters(model))
    with fused_lora(model.modules(), copies):
        for _ in range(2):  # the second time of copies that are there
            copies.refresh()
            assert same(copies.gradients(loss(model)), expected_beside(model))
            with torch.no_grad():
                for master in masters(model):
                    master.mul_(1.1)


def expected_beside(model):
    twin = adapted()
    twin.load_state_dict(model.state_dict())
    found = expected(twin)
    assert sum(gradient is None for gradient in found) == 2  # of the layer that is never called
    return found


def test_layers_that_are_not_fused_use_masters_beside_others():
    model, twin = adapted(), adapted()
    for each in (model, twin):
        each.base_model.model.second.lora_A["default"].register_forward_hook(lambda *_: None)
    copies = WorkingCopies(masters(model))
    with fused_lora(model.modules(), copies):
        found = copies.gradients(loss(model))
    assert same(found, expected(twin))


def test_a_master_that_is_not_wider_has_no_copy():
    model = adapted(torch.float32)
    copies = WorkingCopies(masters(model))
    for master in masters(model):
        assert copies.of(master, torch.float32) is master


def test_without_gradients_and_for_others_there_are_none():
    model, other = adapted(), nn.Parameter(torch.ones(2))
    copies = WorkingCopies(masters(model))
    with torch.no_grad():
        assert copies.of(masters(model)[0], HALF) is masters(model)[0]
    assert copies.of(other, HALF) is other


def test_a_pass_that_is_computed_again_while_gradients_are_taken():
    model = adapted()

    def recomputed(x):
        return checkpoint(plain, x, use_reentrant=False)

    plain = model.base_model.model.forward
    model.base_model.model.forward = recomputed
    copies = WorkingCopies(masters(model))
    with fused_lora(model.modules(), copies):
        for _ in range(2):
            copies.refresh()
            found = copies.gradients(loss(model))
    assert same(found, expected(adapted()))


@pytest.mark.parametrize("is_fused", [True, False])
def test_layers_hold_them_for_a_moment_alone(is_fused):
    model = adapted()
    if is_fused:
        fuse(model)
    layer = model.base_model.model.first
    before = dict(vars(layer)), type(layer)
    with fused_lora(model.modules(), WorkingCopies(masters(model))) as _:
        assert "working_copies" in vars(layer)
    assert (vars(layer), type(layer)) == before
