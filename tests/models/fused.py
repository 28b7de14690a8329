"""Models whose adapted layers are one step of autograd each, and the same models in plain form."""

from __future__ import annotations

import copy
import itertools

import torch
from peft import PeftModel
from torch import Tensor, nn

from rankwise.methods.adapters import delora, fused_delora
from rankwise.methods.adapters.fused import fuse
from rankwise.methods.chain.chain import Chain
from tests.models.adapters import attach, config, layers, train

CHAINS = ("right", "left", "both")
KINDS = ("lora_xs", "delora", "lora", *CHAINS)
DROPOUT = {"delora": "module_dropout"}  # lora_dropout of the others


def adapted(kind: str, dtype: torch.dtype = torch.float32, **options) -> PeftModel:
    """Return the plain network with a trained adapter, or amid a chain of the side ``kind``."""
    if kind == "delora":
        model = attach(kind, dtype=dtype, **options)
    else:
        name = "lora" if kind in CHAINS else kind
        model = attach(name, dtype=dtype, **{"lora_alpha": 6, **options})
    if kind == "lora":
        fuse(model)
    train(model)
    if kind in CHAINS:
        chain = Chain(model, side=kind)
        train(model)
        chain.fold()
        train(model)
    return model


def as_beside_an_accelerator(monkeypatch) -> None:
    """Let DeLoRA keep what costs operations, as it does not on a CPU."""
    for module in (delora, fused_delora):
        monkeypatch.setattr(module, "keeps_factors", lambda _: True)


def with_two_active(kind: str, dtype: torch.dtype = torch.float32) -> PeftModel:
    model = adapted(kind, dtype)
    model.add_adapter("other", config(kind, r=2))
    model.set_adapter("other")
    train(model)
    model.base_model.set_adapter(["default", "other"])
    return model


def plain(model: nn.Module) -> nn.Module:
    """The same model with hooks that do nothing, so that no layer is fused."""
    model = copy.deepcopy(model)
    for layer in layers(model):
        layer.get_base_layer().register_forward_hook(lambda *_: None)
    return model


def fused_layers(output: Tensor) -> int:
    """Count the steps of autograd that hold a whole layer."""
    nodes, waiting = set(), [output.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in nodes:
            nodes.add(node)
            waiting += [parent for parent, _ in node.next_functions]
    return sum(type(node).__name__.startswith("_Fused") for node in nodes)


def results(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """The output, the gradient of the input and that of everything that trains."""
    model.zero_grad()
    x = x.clone().requires_grad_(True)
    output = model(x)
    output.float().square().sum().backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
    return {"output": output, "x": x.grad, **gradients}


def assert_near(actual: dict[str, Tensor], expected: dict[str, Tensor], rounding: float) -> None:
    """Compare results by the norms of their differences."""
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        assert actual[name].dtype == value.dtype, name
        error = (actual[name] - value).double().norm() / value.double().norm()
        assert error <= rounding, f"{name}: {error}"


def cases(*axes: object) -> list[tuple]:
    return list(itertools.product(*axes))
