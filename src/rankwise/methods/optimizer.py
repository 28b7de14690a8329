"""The groups of an optimizer: which learning rate and weight decay each parameter takes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from peft.tuners import lora
from torch import nn

from rankwise.core.errors import ModelError, SettingsError
from rankwise.methods.adapters.factored_weight import FactoredWeight


def parameter_groups(
    model: nn.Module,
    *,
    lr: float,
    lambda_lr: float | None = None,
    weight_decay: float = 0.01,
    b_ratio: float | None = None,
    embedding_lr: float | None = None,
) -> list[dict[str, Any]]:
    """Sort the trainable parameters of ``model`` into groups for ``torch.optim.AdamW``.

    Matrices take ``lr`` and ``weight_decay``. Vectors (biases and the gains of norms) take ``lr``
    and no decay, as in Transformers' Trainer. The strengths λ of DeLoRA take ``lambda_lr``, by
    default ``lr``, and no decay, which would pull them to zero whatever the data says (Bini et al.
    2025, arXiv 2503.18225, Table 9, gives λ a rate of its own). The factors B of LoRA and DeLoRA
    take ``b_ratio`` times ``lr`` (LoRA+, Hayou et al. 2024, arXiv 2402.12354, proposes 16), and
    both factors of an adapted embedding ``embedding_lr``. Empty groups are left out.

    Raises:
        ModelError: Nothing in the model trains.
        SettingsError: A rate, a ratio or the decay is negative, or one is given for what does not
            train.

    Example:
        >>> import torch
        >>> groups = parameter_groups(nn.Linear(3, 2), lr=1e-3)
        >>> [(len(group["params"]), group["weight_decay"]) for group in groups]
        [(1, 0.01), (1, 0.0)]
        >>> optimizer = torch.optim.AdamW(groups)
    """
    rates = {"lr": lr, "lambda_lr": lambda_lr, "b_ratio": b_ratio, "embedding_lr": embedding_lr}
    for name, value in (rates | {"weight_decay": weight_decay}).items():
        if value is not None and value < 0:
            raise SettingsError(f"{name} must not be negative, got {value}")
    left = _trainable(model)

    def take(setting: str, what: str, parameters: Iterable[nn.Parameter]) -> list[nn.Parameter]:
        """Return those of ``parameters`` that train, if a setting says that they are a group."""
        if rates[setting] is None:
            return []
        taken = [left.pop(id(p)) for p in parameters if id(p) in left]
        if not taken:
            raise SettingsError(f"{setting} is {rates[setting]}, but no {what}: leave it out")
        return taken

    if lambda_lr is None and any(id(p) in left for p in strengths_of(model)):
        rates["lambda_lr"] = lambda_lr = lr
    strengths = take("lambda_lr", "strength λ trains", strengths_of(model))
    embeddings = take("embedding_lr", "adapter of an embedding trains", _of_embeddings(model))
    lefts = take("b_ratio", "factor B trains", _left_factors(model))
    matrices = [p for p in left.values() if p.ndim >= 2]
    vectors = [p for p in left.values() if p.ndim < 2]
    groups = [
        {"params": matrices, "lr": lr, "weight_decay": weight_decay},
        {"params": lefts, "lr": lr * (b_ratio or 0), "weight_decay": weight_decay},
        {"params": embeddings, "lr": embedding_lr, "weight_decay": weight_decay},
        {"params": vectors, "lr": lr, "weight_decay": 0.0},
        {"params": strengths, "lr": lambda_lr, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def _trainable(model: nn.Module) -> dict[int, nn.Parameter]:
    """Return the parameters that train, by identity."""
    trainable = {id(p): p for p in model.parameters() if p.requires_grad}
    if not trainable:
        raise ModelError(
            "the model has no trainable parameter: attach an adapter with peft.get_peft_model, "
            "or load it with is_trainable=True"
        )
    return trainable


def strengths_of(model: nn.Module) -> list[nn.Parameter]:
    """Return the parameters that scale a whole change, λ of DeLoRA."""
    return [
        factor.weight
        for layer in model.modules()
        if isinstance(layer, FactoredWeight)
        for part in layer.strength_names
        for factor in getattr(layer, part).values()
    ]


def _left_factors(model: nn.Module) -> list[nn.Parameter]:
    found: list[Any] = []
    for layer in model.modules():
        if isinstance(layer, FactoredWeight):
            found += [
                factor for part in layer.left_names for factor in getattr(layer, part).values()
            ]
        elif isinstance(layer, lora.LoraLayer):
            found += [*layer.lora_B.values(), *layer.lora_embedding_B.values()]
    return [each if isinstance(each, nn.Parameter) else each.weight for each in found]


def _of_embeddings(model: nn.Module) -> list[nn.Parameter]:
    return [
        parameter
        for layer in model.modules()
        if isinstance(layer, lora.Embedding)
        for parameter in (*layer.lora_embedding_A.values(), *layer.lora_embedding_B.values())
    ]
