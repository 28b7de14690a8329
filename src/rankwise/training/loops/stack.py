"""The tensors of several models of one shape as one, with a leading dimension of models.

Each model's own parameters become views of the stacked ones, and their gradients views of the
stacked gradients, so that what works on a single model (its optimizer, a fold, a measurement,
saving) goes on working while all compute at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from rankwise.methods.adapters.bridge import adapter_tensors
from rankwise.tasks.splits import Batch

Tensors = dict[str, Tensor]


class ModelStack:
    """Models that compute together; made anew when a tensor that does not train has changed.

    Frozen tensors of the base that are equal in all models are not stacked. A single model is
    stacked with a copy of itself: products of a batch of one round otherwise than those of several.
    """

    def __init__(self, models: Sequence[nn.Module]) -> None:
        self._models = models
        self._tensors: Tensors = {}
        self._dims: dict[str, int | None] = {}
        self._gradients: list[Tensor] = []
        own = adapter_tensors(models[0])
        held = [dict(_tensors_of(model)) for model in models]
        for name, first in held[0].items():
            each = [tensors[name] for tensors in held]
            if first.requires_grad:
                self._tensors[name] = self._stacked(each)
                self._dims[name] = 0
                continue
            is_shared = id(first) not in own and all(torch.equal(first, it) for it in each)
            self._tensors[name] = first.detach() if is_shared else _as_one(each)
            self._dims[name] = None if is_shared else 0

    def outputs(self, batch: Batch) -> list[dict[str, Tensor]]:
        """Return what each model makes of the same batch."""
        return self._split(self._forward(batch, dim=None))

    def losses(self, batch: Batch) -> Tensor:
        """Return the loss (models,) of each model on its own rows, the leading dimension of these.

        Derivatives of it add to the gradients of the models' parameters.
        """
        if len(self._models) == 1:
            batch = {name: _twice(column) for name, column in batch.items()}
        return self._forward(batch, dim=0)["loss"][: len(self._models)]

    def forget_gradients(self) -> None:
        """Set all gradients to zero."""
        for gradient in self._gradients:
            gradient.zero_()

    def _stacked(self, parameters: Sequence[Tensor]) -> Tensor:
        stacked = _as_one(parameters)
        gradient = torch.zeros_like(stacked)
        for i, parameter in enumerate(parameters):
            parameter.data, parameter.grad = stacked[i], gradient[i]
        leaf = stacked.requires_grad_()
        leaf.grad = gradient
        self._gradients.append(gradient)
        return leaf

    def _forward(self, batch: Batch, *, dim: int | None) -> dict[str, Tensor]:
        function: Callable[..., dict[str, Tensor]] = vmap(
            lambda own, rows: dict(functional_call(self._models[0], own, kwargs=rows)),
            in_dims=(self._dims, dim),  # type: ignore[arg-type]  # a tree of dimensions
            randomness="error",
        )
        return function(self._tensors, batch)

    def _split(self, output: dict[str, Tensor]) -> list[dict[str, Tensor]]:
        columns: dict[str, Any] = {name: each.unbind() for name, each in output.items()}
        return [{name: each[i] for name, each in columns.items()} for i in range(len(self._models))]


def _tensors_of(model: nn.Module) -> list[tuple[str, Tensor]]:
    return [*model.named_parameters(), *model.named_buffers()]


def _as_one(tensors: Sequence[Tensor]) -> Tensor:
    stacked = torch.stack([each.detach() for each in tensors])
    return _twice(stacked) if len(tensors) == 1 else stacked


def _twice(tensor: Tensor) -> Tensor:
    return torch.cat([tensor, tensor])
