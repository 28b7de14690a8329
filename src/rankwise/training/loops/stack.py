"""The tensors of several models of one shape as one, with a leading dimension of models.

Each model's own parameters become views of the stacked ones, and their gradients views of the
stacked gradients, so that what works on a single model (its optimizer, a fold, a measurement,
saving) goes on working while all compute at once. What they compute for a batch of one shape is
recorded once and then replayed (``replay.py``), where that can be done.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from rankwise.methods.adapters.bridge import adapter_tensors
from rankwise.tasks.splits import Batch
from rankwise.training.loops.replay import Function, NotReplayableError, recorded

Tensors = dict[str, Tensor]
Recordings = dict[Hashable, Function | None]
"""What was recorded, by all that it depends on; None where nothing can be."""


class ModelStack:
    """Models that compute together; made anew when a tensor that does not train has changed.

    Frozen tensors of the base that are equal in all models are not stacked. A single model is
    stacked with a copy of itself: products of a batch of one round otherwise than those of several.
    """

    def __init__(
        self, models: Sequence[nn.Module], *, recordings: Recordings | None = None
    ) -> None:
        """Stack models, which are all in one mode.

        Args:
            models: Of one shape.
            recordings: Of another stack of these models, before a fold for example.
        """
        self.recordings: Recordings = {} if recordings is None else recordings
        self._models = models
        self._tensors: Tensors = {}
        self._dims: dict[str, int | None] = {}
        self._gradients: dict[str, Tensor] = {}
        own = adapter_tensors(models[0])
        held = [dict(_tensors_of(model)) for model in models]
        for name, first in held[0].items():
            each = [tensors[name] for tensors in held]
            if first.requires_grad:
                self._tensors[name], self._gradients[name] = self._stacked(each)
                self._dims[name] = 0
                continue
            is_shared = id(first) not in own and all(torch.equal(first, it) for it in each)
            self._tensors[name] = first.detach() if is_shared else _as_one(each)
            self._dims[name] = None if is_shared else 0

    def outputs(self, batch: Batch) -> list[dict[str, Tensor]]:
        """Return what each model makes of the same batch."""
        return self._split(self._computed(self._outputs, batch))

    def losses(self, batch: Batch) -> Tensor:
        """Return the loss (models,) of each model on its own rows, the leading dimension of these.

        Its derivatives become the gradients of the models' parameters.
        """
        if len(self._models) == 1:
            batch = {name: _twice(column) for name, column in batch.items()}
        losses, *gradients = self._computed(self._losses_and_gradients, batch)
        for gradient, found in zip(self._gradients.values(), gradients, strict=True):
            gradient.copy_(found)
        return losses[: len(self._models)]

    def _losses_and_gradients(self, tensors: Tensors, batch: Batch) -> Sequence[Tensor]:
        losses = self._forward(tensors, batch, dim=0)["loss"]
        trained = [tensors[name] for name in self._gradients]
        gradients = torch.autograd.grad(
            losses[: len(self._models)].sum(), trained, allow_unused=True, materialize_grads=True
        )
        return losses.detach(), *gradients

    def _outputs(self, tensors: Tensors, batch: Batch) -> dict[str, Tensor]:
        return self._forward(tensors, batch, dim=None)

    def _stacked(self, parameters: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        stacked = _as_one(parameters)
        gradient = torch.zeros_like(stacked)
        for i, parameter in enumerate(parameters):
            parameter.data, parameter.grad = stacked[i], gradient[i]
        return stacked.requires_grad_(), gradient

    def _computed(self, function: Callable[[Tensors, Batch], Any], batch: Batch) -> Any:
        """Call ``function`` with the stacked tensors and a batch, or replay what it did before."""
        names, columns = list(self._tensors), list(batch)
        inputs = [*self._tensors.values(), *batch.values()]

        def of_inputs(tensors: Sequence[Tensor]) -> Any:
            own, rows = tensors[: len(names)], tensors[len(names) :]
            return function(dict(zip(names, own)), dict(zip(columns, rows, strict=True)))

        key = (function.__name__, self._signature, *(batch[name].shape for name in columns))
        if key not in self.recordings:
            try:
                found, self.recordings[key] = recorded(of_inputs, inputs)
                return found
            except NotReplayableError:
                self.recordings[key] = None
        replay = self.recordings[key]
        return of_inputs(inputs) if replay is None else replay(inputs)

    @cached_property
    def _signature(self) -> Hashable:
        return tuple(
            (name, tensor.shape, tensor.requires_grad, self._dims[name])
            for name, tensor in self._tensors.items()
        )

    def _forward(self, tensors: Tensors, batch: Batch, *, dim: int | None) -> dict[str, Tensor]:
        function: Callable[..., dict[str, Tensor]] = vmap(
            lambda own, rows: dict(functional_call(self._models[0], own, kwargs=rows)),
            in_dims=(self._dims, dim),  # type: ignore[arg-type]  # a tree of dimensions
            randomness="error",
        )
        return function(tensors, batch)

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
