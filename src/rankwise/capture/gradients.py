"""Gradients of full weights, G = Σ dYᵀX, taken by hooks and never through a weight's ``.grad``.

A forward hook keeps the input X of a linear layer, a hook on its output Y receives dY = ∂L/∂Y in
the backward pass, and their product is added up in float32. The weights may thus be frozen,
quantised or sharded, and nothing is left in any ``.grad``. The weight's own layout does not
matter: G is (out, in).

Over several batches one accumulator a layer is held. ``memory`` bounds their sum by taking the
layers in as many passes over the batches as that needs. A layer is handed on inside its backward
hook as soon as it is complete, so with a single batch one gradient exists at a time and one pass
is enough.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, distributed, nn

from rankwise.capture.batches import to_device
from rankwise.capture.losses import summed_loss
from rankwise.core.errors import ModelError, SettingsError, TrainingError
from rankwise.core.modules import device_of, preserved_state

Loss = Callable[[nn.Module, Any], Tensor]


def capture_gradients(
    model: nn.Module,
    layers: Mapping[str, nn.Module],
    *,
    batches: Sequence[Any],
    consume: Callable[[str, Tensor], None],
    loss: Loss = summed_loss,
    memory: int | None = None,
    is_shared_out: bool = False,
) -> None:
    """Hand the gradient G of the loss summed over ``batches`` to ``consume(name, G)``, by layer.

    G = Σ_batches Σ_positions dyᵀ x of shape (out, in), float64 for a float64 weight and float32 for
    any other, at the weight in effect: adapters that are active take part. The model runs in eval
    mode and comes back as it was. Under ``torch.distributed`` every process passes its own batches
    and gets the sum over all of them.

    Args:
        layers: The linear layers under their names; below an adapter, its base layer.
        consume: Called once a layer, in the order in which they are complete. It may keep G and
            must not change weights that the model uses meanwhile.
        loss: ``loss(model, batch)`` runs the model and returns the *sum* of the losses of the
            batch.
        memory: Bytes that the accumulators may take together; None takes all layers in one pass.
        is_shared_out: Under ``torch.distributed``, reduce each gradient to one process alone, its
            :func:`owner`, and call ``consume`` there only. By default every process gets all.

    Raises:
        ModelError: A layer is not linear, or takes no part in the loss.
        SettingsError: ``memory`` is less than one layer needs.
        TrainingError: A loss or a gradient is not finite.

    Example:
        >>> layer, gradients = nn.Linear(2, 1), {}
        >>> capture_gradients(
        ...     layer,
        ...     {"layer": layer},
        ...     batches=[torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0]])],
        ...     consume=gradients.__setitem__,
        ...     loss=lambda model, x: model(x).sum(),
        ... )
        >>> gradients["layer"]
        tensor([[4., 6.]])
    """
    accumulators = [
        _Accumulator(name, layer, owner(number) if is_shared_out else None)
        for number, (name, layer) in enumerate(layers.items())
    ]
    with preserved_state(model), torch.enable_grad():
        model.eval()
        model.requires_grad_(False)
        one_at_a_time = len(batches) == 1 and not is_distributed()
        for group in _passes(accumulators, memory, one_at_a_time=one_at_a_time):
            _run_pass(model, group, batches=batches, consume=consume, loss=loss)


def owner(number: int) -> int:
    """Return the process that a layer is handed to alone, by its number among the layers."""
    return number % distributed.get_world_size() if is_distributed() else 0


class _Accumulator:
    """Adds up the gradient of one layer over its calls and over the batches."""

    def __init__(self, name: str, layer: nn.Module, owner: int | None) -> None:
        self.name = name
        self.layer = layer
        self.owner = owner  # the only process that gets the sum, None where all do
        self.shape = linear_shape(name, layer)
        self.dtype = gradient_dtype(layer)
        self.bytes = math.prod(self.shape) * self.dtype.itemsize
        self.open_calls = 0
        self._total: Tensor | None = None

    def add(self, gradient: Tensor, x: Tensor) -> None:
        dY = gradient.reshape(-1, self.shape[0]).to(self.dtype)
        X = x.reshape(-1, self.shape[1]).to(self.dtype)
        if self._total is None:
            self._total = dY.T @ X
        else:
            self._total.addmm_(dY.T, X)

    def take(self) -> Tensor | None:
        """Let go of the sum over all processes and return it, None where another one owns it."""
        total, self._total = self._total, None
        if total is None:
            total = torch.zeros(self.shape, dtype=self.dtype, device=device_of(self.layer))
        if is_distributed():
            total = _reduced(total, self.owner)
        norm = torch.linalg.vector_norm(total)
        if is_distributed() and self.owner is not None:
            distributed.broadcast(norm, src=self.owner)  # so that all processes stop, or none
        # The norm costs one reading; only where it has over- or underflown are all numbers asked.
        if not (norm.isfinite() or total.isfinite().all()):
            raise TrainingError(f"the gradient of {self.name} is not finite: check the batches")
        if norm == 0 and not total.any():
            raise ModelError(
                f"{self.name} has no gradient: it takes no part in the loss of these batches; "
                "pass others, or leave it out of target_modules"
            )
        return total if self.owner in (None, _rank()) else None


def _run_pass(
    model: nn.Module,
    group: Sequence[_Accumulator],
    *,
    batches: Sequence[Any],
    consume: Callable[[str, Tensor], None],
    loss: Loss,
) -> None:
    waiting = {accumulator.name: accumulator for accumulator in group}
    is_last = False

    def hand_on(accumulator: _Accumulator) -> None:
        del waiting[accumulator.name]
        total = accumulator.take()
        assert total is not None, "one process owns all its layers"
        consume(accumulator.name, total)

    def receive(accumulator: _Accumulator, gradient: Tensor, x: Tensor) -> None:
        accumulator.add(gradient, x)
        accumulator.open_calls -= 1
        # Processes may reach a layer in different orders; they meet in the loop below instead.
        if is_last and not accumulator.open_calls and not is_distributed():
            hand_on(accumulator)

    handles = [
        accumulator.layer.register_forward_hook(_tap(accumulator, receive)) for accumulator in group
    ]
    try:
        for number, batch in enumerate(batches, start=1):
            is_last = number == len(batches)
            for accumulator in group:
                accumulator.open_calls = 0
            _backward(loss(model, to_device(batch, device_of(model))))
    finally:
        for handle in handles:
            handle.remove()
    if not is_distributed():
        for accumulator in list(waiting.values()):
            hand_on(accumulator)
        return
    # All are reduced before any is consumed: no process waits for what another makes of its share.
    totals = {accumulator.name: accumulator.take() for accumulator in group}
    for name in list(totals):
        if (total := totals.pop(name)) is not None:
            consume(name, total)


def _reduced(total: Tensor, owner: int | None) -> Tensor:
    """Return the sum over all processes, in ``owner`` or in all; void in the others."""
    if owner is None:
        distributed.all_reduce(total)
    else:
        distributed.reduce(total, dst=owner)
    return total


def _tap(accumulator: _Accumulator, receive: Callable[[_Accumulator, Tensor, Tensor], None]) -> Any:
    def forward_hook(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            return output
        x = inputs[0].detach()
        version = x._version
        held = [x]  # let go of when used: the graph, and this hook in it, outlive the backward pass
        del x
        if not output.requires_grad:
            # Nothing before this layer has a gradient: the graph begins here. The copy may be
            # changed in place by what follows, which a leaf may not.
            output = output.requires_grad_().clone()

        def backward_hook(gradient: Tensor) -> None:
            x = held.pop()
            if x._version != version:
                raise ModelError(
                    f"the input of {accumulator.name} was changed in place after it was used: "
                    "its gradient cannot be taken by hooks"
                )
            receive(accumulator, gradient, x)

        output.register_hook(backward_hook)
        accumulator.open_calls += 1
        return output

    return forward_hook


def _backward(value: Tensor) -> None:
    if value.dim():
        raise ModelError(f"loss must return one number, got shape {tuple(value.shape)}: sum it")
    if not value.isfinite():
        raise TrainingError(f"the loss of a batch is {value.item()}: check the batch and the model")
    if not value.requires_grad:
        raise ModelError("the loss depends on none of the layers: check target_modules")
    value.backward()


def _passes(
    accumulators: list[_Accumulator], memory: int | None, *, one_at_a_time: bool
) -> Iterator[list[_Accumulator]]:
    """Cut the layers, in order, into groups whose accumulators fit into ``memory`` together."""
    group: list[_Accumulator] = []
    held = 0
    for accumulator in accumulators:
        if memory is not None and accumulator.bytes > memory:
            raise SettingsError(
                f"gradient_memory must be at least {accumulator.bytes} bytes, which "
                f"{accumulator.name} needs alone, got {memory}"
            )
        if memory is not None and held + accumulator.bytes > memory and not one_at_a_time:
            yield group
            group, held = [], 0
        group.append(accumulator)
        held += accumulator.bytes
    yield group


def linear_shape(name: str, layer: nn.Module) -> tuple[int, int]:
    """Return (out, in) as the layer declares it: in_features as ``nn.Linear``, nx as ``Conv1D``."""
    for attributes in (("out_features", "in_features"), ("nf", "nx")):
        if all(isinstance(getattr(layer, attribute, None), int) for attribute in attributes):
            out_features, in_features = (getattr(layer, attribute) for attribute in attributes)
            return out_features, in_features
    raise ModelError(
        f"{name} is a {type(layer).__name__}: full gradients are taken of linear layers only; "
        "leave it out of target_modules"
    )


def gradient_dtype(layer: nn.Module) -> torch.dtype:
    """Return the dtype of a layer's gradient: float64 for such a weight, float32 for any other."""
    weight = next(layer.parameters())
    floating = weight.dtype if weight.is_floating_point() else torch.float32
    return torch.promote_types(torch.float32, floating)


def _rank() -> int:
    return distributed.get_rank() if is_distributed() else 0


def is_distributed() -> bool:
    """Tell whether several processes work together."""
    return (
        distributed.is_available()
        and distributed.is_initialized()
        and distributed.get_world_size() > 1
    )
