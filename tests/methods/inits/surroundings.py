"""A model under an adapter, and all of it that an initialization must leave as it was."""

from __future__ import annotations

import torch
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model
from torch import Tensor, nn

from tests.models.networks import classifier


def adapted(
    base: nn.Module | None = None, config: PeftConfig | None = None, **options
) -> PeftModel:
    """Attach an adapter, by default a plain LoRA of rank 2, from a fixed seed."""
    torch.manual_seed(1)
    options = {"r": 2, "lora_alpha": 6, "target_modules": ["first", "second"], **options}
    return get_peft_model(base or classifier(), config or LoraConfig(**options))


def values(model: nn.Module) -> dict[str, Tensor]:
    """Copies of all parameters and buffers."""
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def is_of_adapter(name: str, adapter_name: str = "default") -> bool:
    return f".{adapter_name}" in name


def surroundings(model: nn.Module) -> dict[str, object]:
    """Everything but the values of the adapter."""
    base = {name: value for name, value in values(model).items() if not is_of_adapter(name)}
    return {
        "names": list(model.state_dict()),
        "base": {name: (value.dtype, value.tolist()) for name, value in base.items()},
        "modes": [module.training for module in model.modules()],
        "gradients": [(p.requires_grad, None if p.grad is None else p.grad.tolist())
                      for p in model.parameters()],
        "hooks": [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()],
        "active": [(m.active_adapters, m.disable_adapters)
                   for m in model.modules() if hasattr(m, "disable_adapters")],
        "model": (model.active_adapters, sorted(model.peft_config)),
        "random": torch.get_rng_state().tolist(),
    }  # fmt: skip
