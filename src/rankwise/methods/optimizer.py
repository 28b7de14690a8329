"""The groups of an optimizer: which learning rate and weight decay each parameter takes."""

from __future__ import annotations

from typing import Any

from torch import nn

from rankwise.core.errors import ModelError, SettingsError
from rankwise.methods.adapters.factored import FactoredLinear


def parameter_groups(
    model: nn.Module, *, lr: float, lambda_lr: float | None = None, weight_decay: float = 0.01
) -> list[dict[str, Any]]:
    """Sort the trainable parameters of ``model`` into groups for ``torch.optim.AdamW``.

    Matrices take ``lr`` and ``weight_decay``. Vectors (biases and the gains of norms) take ``lr``
    and no decay, as in Transformers' Trainer. The strengths λ of DeLoRA take ``lambda_lr``, by
    default ``lr``, and no decay, which would pull them to zero whatever the data says (Bini et al.
    2025, arXiv 2503.18225, Table 9, gives λ a rate of its own). Empty groups are left out.

    Raises:
        ModelError: Nothing in the model trains.
        SettingsError: A rate or the decay is negative, or ``lambda_lr`` is given and no λ trains.

    Example:
        >>> import torch
        >>> groups = parameter_groups(nn.Linear(3, 2), lr=1e-3)
        >>> [(len(group["params"]), group["weight_decay"]) for group in groups]
        [(1, 0.01), (1, 0.0)]
        >>> optimizer = torch.optim.AdamW(groups)
    """
    for name, value in (("lr", lr), ("lambda_lr", lambda_lr), ("weight_decay", weight_decay)):
        if value is not None and value < 0:
            raise SettingsError(f"{name} must not be negative, got {value}")
    trainable = [p for p in model.parameters() if p.requires_grad]
    if not trainable:
        raise ModelError(
            "the model has no trainable parameter: attach an adapter with peft.get_peft_model, "
            "or load it with is_trainable=True"
        )
    strengths = {id(p) for p in _strengths(model)}
    if lambda_lr is not None and not any(id(p) in strengths for p in trainable):
        raise SettingsError(f"lambda_lr is {lambda_lr}, but no strength λ trains: leave it out")
    others = [p for p in trainable if id(p) not in strengths]
    groups = [
        {"params": [p for p in others if p.ndim >= 2], "lr": lr, "weight_decay": weight_decay},
        {"params": [p for p in others if p.ndim < 2], "lr": lr, "weight_decay": 0.0},
        {
            "params": [p for p in trainable if id(p) in strengths],
            "lr": lr if lambda_lr is None else lambda_lr,
            "weight_decay": 0.0,
        },
    ]
    return [group for group in groups if group["params"]]


def _strengths(model: nn.Module) -> list[nn.Parameter]:
    return [
        factor.weight
        for layer in model.modules()
        if isinstance(layer, FactoredLinear)
        for part in layer.strength_names
        for factor in getattr(layer, part).values()
    ]
