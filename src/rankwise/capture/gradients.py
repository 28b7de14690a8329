"""Gradients of full weights, G = Σ dYᵀX, taken by hooks and never through a weight's ``.grad``.

A forward hook keeps the input X of a linear layer, a hook on its output Y receives dY = ∂L/∂Y in
the backward pass, and their product is added up in float32. The weights may thus be frozen,
quantised or sharded, and nothing is left in any ``.grad``. The weight's own layout does not
matter: G is (out, in).

The inputs X are most of what this takes beyond a frozen pass, so blocks that can make them again do
so (``recompute.py``).

Over several batches one accumulator a layer is held. ``memory`` bounds their sum by taking the
layers in as many passes over the batches as that needs. A layer is handed on inside its backward
hook as soon as it is complete, so with a single batch one gradient exists at a time and one pass
is enough.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, distributed, nn

from rankwise.capture.batches import borrowed, named_errors
from rankwise.capture.losses import summed_loss
from rankwise.capture.recompute import recomputed_blocks
from rankwise.capture.stacks import Source, Stack
from rankwise.capture.taps import Taps
from rankwise.core.autocast import without_autocast
from rankwise.core.errors import ModelError, SettingsError, TrainingError
from rankwise.core.modules import (
    check_usable,
    device_of,
    gradients_on,
    preserved_state,
)
from rankwise.functional.product import Product

Loss = Callable[[nn.Module, Any], Tensor]


def capture_gradients(
    model: nn.Module,
    layers: Mapping[str, Source],
    *,
    batches: Collection[Any],
    consume: Callable[[str, Tensor], None],
    loss: Loss = summed_loss,
    memory: int | None = None,
    is_shared_out: bool = False,
    consume_product: Callable[[str, Product], None] | None = None,
    consume_none: Callable[[str], None] | None = None,
    is_checked: bool = True,
) -> None:
    """Hand the gradient G of the loss summed over ``batches`` to ``consume(name, G)``, by layer.

    G = Σ_batches Σ_positions dyᵀ x of shape (out, in), float64 for a float64 weight and float32 for
    any other, at the weight in effect: adapters that are active take part. The model runs in eval
    mode and comes back as it was. Under ``torch.distributed`` every process passes its own batches
    and gets the sum over all of them.

    Args:
        layers: The linear layers under their names; below an adapter, its base layer. Of a
            :class:`Stack` of matrices G is (experts, out, in).
        consume: Called once a layer, in the order in which they are complete. It may keep G and
            must not change weights that the model uses meanwhile.
        loss: ``loss(model, batch)`` runs the model and returns the *sum* of the losses of the
            batch.
        memory: Bytes that the accumulators may take together; None takes all layers in one pass.
        is_shared_out: Under ``torch.distributed``, reduce each gradient to one process alone, its
            :func:`owner`, and call ``consume`` there only. By default every process gets all.
        consume_product: Called in place of ``consume``, with dYᵀ and X as they are, for each layer
            that is called once in the only batch of the only process: its G is never formed.
        consume_none: Called in place of ``consume`` for each layer that takes no part in the loss:
            its G is zero. Without it such a layer is an error.
        is_checked: ``False`` leaves it to ``consume`` and ``consume_product`` to look whether what
            they get is finite and not zero (:func:`not_finite`, :func:`no_gradient`): an
            accelerator is then not waited for at each layer. Stacks, and gradients that are summed
            over processes, are looked at all the same.

    Raises:
        ModelError: A layer is not linear, or takes no part in the loss; or ``model`` has lazy
            modules.
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
    one_at_a_time = len(batches) == 1 and not is_distributed()
    give = _Consumers(
        consume, consume_product if one_at_a_time else None, consume_none, is_checked=is_checked
    )
    check_usable(model)
    with gradients_on(), preserved_state(model), recomputed_blocks(model):
        model.eval()
        model.requires_grad_(False)
        for group in _passes(accumulators, memory, one_at_a_time=one_at_a_time):
            _run_pass(model, group, batches=batches, give=give, loss=loss)


def owner(number: int) -> int:
    """Return the process that a layer is handed to alone, by its number among the layers."""
    return number % distributed.get_world_size() if is_distributed() else 0


def no_gradient(name: str) -> ModelError:
    """Return the error of a layer whose gradient is zero."""
    return ModelError(
        f"{name} has no gradient: it takes no part in the loss of these batches; "
        "pass others, or leave it out of target_modules"
    )


def not_finite(name: str) -> TrainingError:
    """Return the error of a layer whose gradient is not finite."""
    return TrainingError(f"the gradient of {name} is not finite: check the batches")


@dataclass(frozen=True)
class _Consumers:
    """Who gets a gradient, one that was not multiplied and one that is zero, if anyone does.

    Attributes:
        is_checked: Whether gradients are looked at before they are handed on.
    """

    whole: Callable[[str, Tensor], None]
    product: Callable[[str, Product], None] | None
    none: Callable[[str], None] | None
    is_checked: bool

    def give_none(self, name: str) -> None:
        """Tell that a layer takes no part, or refuse it."""
        if self.none is None:
            raise no_gradient(name)
        self.none(name)


class _Accumulator:
    """Adds up the gradient of one layer over its calls and over the batches."""

    def __init__(self, name: str, layer: Source, owner: int | None) -> None:
        self.name = name
        self.layer = layer
        self.owner = owner  # the only process that gets the sum, None where all do
        self.shape = shape_of(name, layer)
        self.dtype = gradient_dtype(layer)
        self.bytes = math.prod(self.shape) * self.dtype.itemsize
        self._total: Tensor | None = None

    @property
    def is_empty(self) -> bool:
        return self._total is None

    def product(self, gradient: Tensor, x: Tensor) -> Product:
        """Return the gradient of one call, dYᵀ X."""
        dY, X = gradient.reshape(-1, self.shape[-2]), x.reshape(-1, self.shape[-1])
        # In half precision as they are: their products are accumulated in float32.
        shared = torch.promote_types(dY.dtype, X.dtype)
        dtype = shared if self.dtype == torch.float32 and shared.itemsize == 2 else self.dtype
        return Product(dY.to(dtype).T, X.to(dtype))

    def add(self, product: Product) -> None:
        if self._total is None:
            self._total = product.dense()
        else:
            product.add_to(self._total)

    def add_whole(self, gradient: Tensor) -> None:
        if self._total is None:
            self._total = gradient.to(self.dtype)
        else:
            self._total += gradient

    def take(self, *, is_checked: bool) -> Taken:
        """Let go of the sum over all processes, and say what it comes to."""
        total, self._total = self._total, None
        if total is None and not is_distributed():
            return Taken(None, is_zero=True)
        if not (is_checked or is_distributed() or isinstance(self.layer, Stack)):
            return Taken(total, is_zero=False)
        if total is None:
            module = self.layer.module if isinstance(self.layer, Stack) else self.layer
            total = torch.zeros(self.shape, dtype=self.dtype, device=device_of(module))
        if is_distributed():
            total = _reduced(total, self.owner)
        size = _size(total)
        if is_distributed() and self.owner is not None:
            distributed.broadcast(size, src=self.owner)  # so that all processes stop, or none
        self._check_finite(size)
        return Taken(total if self.owner in (None, _rank()) else None, is_zero=not size)

    def has_direction(self, product: Product) -> bool:
        """Tell whether no factor is zero, and refuse one that is not finite."""
        sizes = [_size(product.left), _size(product.right)]
        for size in sizes:
            self._check_finite(size)
        return all(sizes)

    def _check_finite(self, size: Tensor) -> None:
        if not size.isfinite():
            raise not_finite(self.name)


class Taken(NamedTuple):
    """A gradient summed over all, in the process that owns it, and whether it is zero."""

    total: Tensor | None
    is_zero: bool


def _size(values: Tensor) -> Tensor:
    """Return a number that is zero, or not finite, as the values are."""
    norm = torch.linalg.vector_norm(values, dtype=torch.promote_types(values.dtype, torch.float32))
    # It costs one reading; only where it has over- or underflown are all numbers asked.
    return norm if 0 < float(norm) < math.inf else values.abs().max().to(norm.dtype)


def _run_pass(
    model: nn.Module,
    group: Sequence[_Accumulator],
    *,
    batches: Collection[Any],
    give: _Consumers,
    loss: Loss,
) -> None:
    one = _Pass(group, give)
    with one.taps.attached():
        for number, batch in enumerate(batches, start=1):
            one.is_last = number == len(batches)
            given = borrowed(batch, device_of(model))
            with named_errors(given, number, len(batches), is_ours=loss is summed_loss):
                value = _checked(loss(model, given))
            with without_autocast():  # which is of forward passes; gradients are added up here
                one.taps.backward(value)
    with without_autocast():
        one.finish()


class _Pass:
    """A pass over all batches that hands on the gradients of a group of layers.

    Attributes:
        is_last: Whether the batch is the last one: a layer that has been reached as often as it was
            called is complete then, and is handed on at once.
    """

    def __init__(self, group: Sequence[_Accumulator], give: _Consumers) -> None:
        self._give = give
        self._waiting = {accumulator.name: accumulator for accumulator in group}
        layers = {accumulator.name: accumulator.layer for accumulator in group}
        self.taps = Taps(layers, self._receive, self._receive_stack)
        self.is_last = False

    def finish(self) -> None:
        """Hand on what is left, summed over the processes."""
        if not is_distributed():
            for name in list(self._waiting):
                self._hand_on(name, self._waiting.pop(name).take(is_checked=self._give.is_checked))
            return
        # All are reduced before any is consumed: no process waits for what another makes of its
        # share.
        totals = {name: each.take(is_checked=True) for name, each in self._waiting.items()}
        for name in list(totals):
            self._hand_on(name, totals.pop(name))

    def _receive(self, name: str, dY: Tensor, x: Tensor) -> None:
        accumulator = self._waiting[name]
        product = accumulator.product(dY, x)
        if self._give.product is not None and self._is_complete(name) and accumulator.is_empty:
            del self._waiting[name]
            if not self._give.is_checked or accumulator.has_direction(product):
                self._give.product(name, product)
            else:
                self._give.give_none(name)
            return
        accumulator.add(product)
        self._hand_on_if_complete(name)

    def _receive_stack(self, name: str, gradient: Tensor) -> None:
        self._waiting[name].add_whole(gradient)
        self._hand_on_if_complete(name)

    def _is_complete(self, name: str) -> bool:
        return self.is_last and not self.taps.open_calls[name]

    def _hand_on_if_complete(self, name: str) -> None:
        # Processes may reach a layer in different orders; they meet at the end instead.
        if self._is_complete(name) and not is_distributed():
            self._hand_on(name, self._waiting.pop(name).take(is_checked=self._give.is_checked))

    def _hand_on(self, name: str, taken: Taken) -> None:
        if taken.is_zero:
            self._give.give_none(name)
        elif taken.total is not None:
            self._give.whole(name, taken.total)


def _reduced(total: Tensor, owner: int | None) -> Tensor:
    """Return the sum over all processes, in ``owner`` or in all; void in the others."""
    if owner is None:
        distributed.all_reduce(total)
    else:
        distributed.reduce(total, dst=owner)
    return total


def _checked(value: Tensor) -> Tensor:
    if value.dim():
        raise ModelError(f"loss must return one number, got shape {tuple(value.shape)}: sum it")
    if not value.isfinite():
        raise TrainingError(f"the loss of a batch is {value.item()}: check the batch and the model")
    if value.grad_fn is None:
        raise ModelError("the loss depends on none of the layers: check target_modules")
    return value


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


def shape_of(name: str, layer: Source) -> tuple[int, ...]:
    """Return (out, in) of a linear layer, (experts, out, in) of a stack."""
    return layer.shape if isinstance(layer, Stack) else linear_shape(name, layer)


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


def gradient_dtype(layer: Source) -> torch.dtype:
    """Return the dtype of a layer's gradient: float64 for such a weight, float32 for any other."""
    weight = layer.parameter if isinstance(layer, Stack) else next(layer.parameters())
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
