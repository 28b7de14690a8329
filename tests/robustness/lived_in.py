"""Models amid their use, pictures of them, and sweeps that find both as they were."""

from __future__ import annotations

import torch
from peft import LoraConfig, get_peft_model

from rankwise.methods.adapters.lora_xs import LoraXSConfig
from tests.models.networks import classifier

from .interrupter import keyboard_interrupt, runtime_error, sweep

TARGETS = ["first", "second"]
KINDS = {
    "lora": lambda: LoraConfig(r=2, target_modules=TARGETS),
    "lora_xs": lambda: LoraXSConfig(r=2, target_modules=TARGETS),
}
BATCH = {
    "x": torch.randn(5, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64),
    "labels": torch.tensor([0, 1, 2, 0, 1]),
}


def autocast_state():
    """Whether autocast is on, and in how many of its contexts we are: in one, casts are kept."""
    depth = torch.autocast_increment_nesting() - 1
    torch.autocast_decrement_nesting()
    return torch.is_autocast_enabled("cpu"), depth


def picture(model):
    """Everything of a model that an init or a lent adapter must leave alone, but for the values."""
    around = {
        name: (
            module.training,
            sorted(vars(module).keys() - {"_disable_adapters"}),
            len(module._forward_hooks),
            len(module._forward_pre_hooks),
            sorted(module._modules),
            sorted(module._parameters),
            sorted(module._buffers),
            getattr(module, "_disable_adapters", None),
            list(getattr(module, "_active_adapter", [])),
        )
        for name, module in model.named_modules()
    }
    trained = {
        name: (id(p), p.requires_grad, None if p.grad is None else p.grad.tolist())
        for name, p in model.named_parameters()
    }
    ambient = (torch.get_rng_state().tolist(), torch.is_grad_enabled(), autocast_state())
    adapters = sorted(getattr(model, "peft_config", ())), getattr(model, "active_adapters", None)
    return around, trained, ambient, adapters


def values(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def are_equal(first, second):
    return first.keys() == second.keys() and all(
        torch.equal(first[name], second[name]) for name in first
    )


def lived_in(kind):
    """A model with gradients, a frozen head and an adapter that has moved."""
    torch.manual_seed(0)
    model = get_peft_model(classifier(), KINDS[kind]())
    for number, parameter in enumerate(model.parameters()):
        if parameter.requires_grad:
            parameter.data.add_(0.1 * number)
            parameter.grad = torch.ones_like(parameter)
    return model


def assert_nothing_bad(make, act, check, **options):
    for strike in (keyboard_interrupt, runtime_error):
        faults = sweep(
            make,
            lambda state: act(*state),
            lambda state, _is_done: check(*state),
            strike=strike,
            **options,
        )
        assert not faults, faults
