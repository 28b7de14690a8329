"""Optimizers that know matrices: Muon of PyTorch and Riemannian preconditioning of PEFT.

Both take the groups of :func:`rankwise.parameter_groups`, so rates and decay are as with AdamW.

- Muon (Jordan 2024, https://kellerjordan.github.io/posts/muon/) steps along the orthogonalised
  momentum of a matrix: all directions of a factor move alike. Its update is scaled to the size of
  AdamW's, 0.2 √max(rows, columns) (Liu et al. 2025, arXiv 2502.16982), so that one learning rate
  serves both. It takes matrices alone: what else trains (biases, heads, embeddings, DeLoRA's λ,
  stacks of experts) is AdamW's.
- Riemannian preconditioning (Zhang and Pilanci 2024, arXiv 2402.02347) multiplies the gradient of
  each factor of a LoRA by the inverse of the other's Gram matrix.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import peft
import torch
from peft import PeftModel, optimizers
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from torch.optim import AdamW, Optimizer

from rankwise.core.errors import ModelError
from rankwise.methods.adapters.bridge import adapter_parameters
from rankwise.methods.optimizer import strengths_of

Group = dict[str, Any]


def muon(model: nn.Module, groups: list[Group]) -> Optimizer:
    """Return Muon on the factors of the adapters in ``groups``, with AdamW on what else trains.

    Where nothing else trains it is a plain ``torch.optim.Muon``, with its own momentum of 0.95.

    Args:
        model: The model that carries the adapters.
        groups: Of its trainable parameters, as :func:`rankwise.parameter_groups` returns them.

    Raises:
        ModelError: torch is older than 2.9, which brought Muon; or no factor trains.

    Example:
        >>> from peft import LoraConfig, get_peft_model
        >>> from rankwise.methods.optimizer import parameter_groups
        >>> base = nn.Sequential(nn.Linear(4, 3))
        >>> model = get_peft_model(base, LoraConfig(r=2, target_modules=["0"]))
        >>> type(muon(model, parameter_groups(model, lr=1e-3))).__name__
        'Muon'
    """
    kind: Any = getattr(torch.optim, "Muon", None)
    if kind is None:
        raise ModelError(
            f"torch.optim.Muon came with torch 2.9, and this is torch {torch.__version__}: install "
            "a newer one, or take AdamW"
        )
    ids = _factors_of(model)
    factors = _split(groups, lambda parameter: id(parameter) in ids)
    others = _split(groups, lambda parameter: id(parameter) not in ids)
    if not factors:
        raise ModelError(
            f"{type(model).__name__} has no adapter whose factors train, and Muon is for matrices "
            "of adapters: attach one, or take AdamW"
        )
    options = {"adjust_lr_fn": "match_rms_adamw"}
    return MuonBesideAdamW(kind(factors, **options), others) if others else kind(factors, **options)


class MuonBesideAdamW(Optimizer):
    """Muon on some parameters and AdamW on the others, as one optimizer with one state."""

    def __init__(self, first: Optimizer, others: list[Group]) -> None:
        self._parts = (first, AdamW(others))
        super().__init__([group for part in self._parts for group in part.param_groups], {})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take a step of both; a closure is called once, before."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self._parts:
            # Taken anew: groups and state are others once they have been loaded.
            known = part.defaults.keys()
            part.param_groups = [each for each in self.param_groups if known <= each.keys()]
            part.state = self.state
            part.step()
        return loss


def riemannian(
    model: PeftModel, groups: list[Group], kind: type[Optimizer], *, reg: float, **options: Any
) -> Optimizer:
    """Return PEFT's Riemannian preconditioning of an optimizer, on ``groups``.

    g_A ← (BᵀB + reg)⁻¹ g_A and g_B ← g_B (AAᵀ + reg)⁻¹ before each step of ``kind``.

    Args:
        model: A model with LoRA, both of whose factors train.
        groups: Of its trainable parameters, as :func:`rankwise.parameter_groups` returns them.
        kind: Such as ``torch.optim.AdamW``; ``options`` are its own.
        reg: What is added to the diagonals, above 0.

    Raises:
        ModelError: PEFT has no such optimizer yet, or no pair of factors trains.
    """
    create = getattr(optimizers, "create_riemannian_optimizer", None)
    if create is None:
        raise ModelError(
            f"PEFT {peft.__version__} has no Riemannian preconditioning: install a newer one"
        )
    try:
        optimizer = create(model, kind, lr=groups[0]["lr"], reg=reg, **options)
    except ValueError as error:
        raise ModelError(f"riemannian_reg: {error}") from error
    optimizer.param_groups.clear()  # PEFT knows one rate and one decay for all
    for group in groups:
        optimizer.add_param_group(group)
    return optimizer


def _split(groups: list[Group], belongs: Callable[[nn.Parameter], bool]) -> list[Group]:
    """Return the groups with those of their parameters alone that belong."""
    left = [{**each, "params": [p for p in each["params"] if belongs(p)]} for each in groups]
    return [each for each in left if each["params"]]


def _factors_of(model: nn.Module) -> set[int]:
    """Return the ids of the matrices that adapters train; tables of embeddings are none."""
    found: set[int] = set()
    for layer in model.modules():
        if isinstance(layer, BaseTunerLayer):
            for adapter_name in layer._get_available_adapters():
                found |= {
                    id(parameter)
                    for part, parameter in adapter_parameters(layer, adapter_name).items()
                    if parameter.ndim == 2 and "embedding" not in part
                }
    return found - {id(strength) for strength in strengths_of(model)}
