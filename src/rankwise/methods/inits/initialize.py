"""Initialise an adapter from data, leaving no trace on the model but the adapter."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, runtime_checkable

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from rankwise.capture.batches import check_batch, collect_batches, named_errors
from rankwise.capture.gradients import Loss, capture_gradients
from rankwise.capture.losses import summed_loss
from rankwise.core.autocast import without_autocast
from rankwise.core.errors import ModelError, TrainingError
from rankwise.core.modules import (
    check_usable,
    gradients_on,
    numbers,
    preserved_state,
    random_state_kept,
)
from rankwise.core.undoing import undone_on_error
from rankwise.diagnostics.captured import Trained, captured_share
from rankwise.diagnostics.relative_norm import product_norm, relative_norm
from rankwise.methods.adapters.adapter_names import adapter_names, check_adapter_names
from rankwise.methods.adapters.bridge import (
    adapted_layers,
    adapter_parameters,
    base_weight,
    check_factors,
    check_scaling,
    factors,
    followed_factors,
    gradient_source,
    rank,
    unpacked_parts,
)
from rankwise.methods.adapters.quantised import keep_differentiable
from rankwise.methods.adapters.stacks import adapted_parameter
from rankwise.methods.adapters.switching import active_adapter
from rankwise.methods.adapters.undrawn import Start, Undrawn
from rankwise.methods.inits.progress import Progress, Watch, shown
from rankwise.methods.inits.report import InitializationReport, LayerStart, Outcome


@runtime_checkable
class Initialization(Protocol):
    """A way to start: its settings, and how it writes an adapter."""

    @property
    def batches_at_most(self) -> int | None:
        """How many batches it reads at most; None if all."""
        ...

    def run(
        self,
        model: nn.Module,
        layers: Mapping[str, BaseTunerLayer],
        *,
        adapter_name: str,
        batches: Sequence[Any],
        loss: Loss | None,
        watch: Watch,
    ) -> Outcome:
        """Write ``adapter_name`` into ``layers``; the caller restores the rest of the model."""
        ...


def initialize(
    model: nn.Module,
    init: Initialization,
    batches: Iterable[Any],
    *,
    adapter_name: str = "default",
    loss: Loss | None = None,
    measure: bool = False,
    progress: bool | Callable[[Progress], None] | None = None,
) -> InitializationReport:
    """Write the start of an adapter from data, and say what was done.

    Everything else is as before afterwards: buffers, modes, ``requires_grad`` and ``.grad`` also of
    what ``loss`` uses beside the model, hooks, active adapters, the global random state. If an
    exception ends this, wherever it strikes, the adapter is as before as well.

    Args:
        model: A model with a LoRA-like adapter, as ``peft.get_peft_model`` returns it.
        init: :class:`UpdateApproximation` or :class:`BoundaryMatching`.
        batches: Mappings of the model's arguments, or anything that ``loss`` takes; read once.
        adapter_name: The adapter to write.
        loss: ``loss(model, batch)`` runs the model and returns the *sum* of the losses of the
            batch. By default ``model(**batch)`` runs, and its mean loss is multiplied by the
            number of its terms; see :func:`rankwise.capture.losses.summed_loss`.
        measure: Also measure the share of the first batch's gradient that the adapter can follow,
            before and after, which costs two gradient passes over that batch.
        progress: Called with a :class:`Progress` after each batch or step. By default a bar shows
            it where the output is a terminal; ``False`` shows none.

    Raises:
        DataError: ``batches`` is empty, or a batch cannot be used; it is named by its number.
        ModelError: ``model`` has no such adapter, or one whose change is no product of two factors,
            whose scaling is not positive or whose name PEFT mistakes for a module's; or it has lazy
            modules, or parameters made in ``torch.inference_mode``.
        TrainingError: A loss, a gradient or the start that was computed is not finite.
        TypeError: ``init`` is no initialization.

    Example:
        >>> from peft import LoraConfig, get_peft_model
        >>> from rankwise.methods.inits.update import UpdateApproximation
        >>> base = nn.Sequential(nn.Linear(4, 3))
        >>> model = get_peft_model(base, LoraConfig(r=2, target_modules=["0"]))
        >>> init, batches = UpdateApproximation(lr=1e-4), [torch.ones(5, 4)]
        >>> report = initialize(model, init, batches, loss=lambda model, x: model(x).sum())
        >>> report.outcome.samples
        5
    """
    if isinstance(init, type) or not isinstance(init, Initialization):
        raise TypeError(
            f"init must be UpdateApproximation(...) or BoundaryMatching(...), got {init!r}"
        )
    started = time.perf_counter()
    layers = _usable_layers(model, adapter_name)
    collected = _collected(batches, most=init.batches_at_most, is_ours=loss is None)
    with (
        gradients_on(),
        preserved_state(model),
        undone_on_error(_Values(layers.values()).restore),
        shown(progress) as watch,
    ):
        measured = partial(_shares, model, layers, adapter_name, collected[0], loss)
        before = measured() if measure else {}
        outcome = init.run(
            model, layers, adapter_name=adapter_name, batches=collected, loss=loss, watch=watch
        )
        starts = _starts(layers, adapter_name, before=before, after=measured() if measure else {})
        return InitializationReport(
            init=type(init).__name__,
            adapter_name=adapter_name,
            seconds=time.perf_counter() - started,
            outcome=outcome,
            layers=starts,
        )


def _usable_layers(model: nn.Module, adapter_name: str) -> Mapping[str, BaseTunerLayer]:
    """Return the adapted layers, or refuse before anything runs."""
    layers = adapted_layers(model, adapter_name)
    check_adapter_names(model, adapter_names(model))
    for layer in layers.values():
        check_factors(layer, adapter_name)
        check_scaling(layer, adapter_name)
    check_usable(model)
    keep_differentiable(model)
    _check_in_memory(layers)
    return layers


def _starts(
    layers: Mapping[str, BaseTunerLayer],
    adapter_name: str,
    *,
    before: Mapping[str, float],
    after: Mapping[str, float],
) -> tuple[LayerStart, ...]:
    """Say of each layer how it starts; what was measured before and after is by layer."""
    strengths = numbers([_strength(layer, adapter_name) for layer in layers.values()])
    for (name, layer), strength in zip(layers.items(), strengths, strict=True):
        if not math.isfinite(strength):  # also where the weight is zero
            _check_finite(name, layer, adapter_name)
    return tuple(
        LayerStart(
            name,
            rank(layer, adapter_name),
            strength,
            captured_before=before.get(name),
            captured_after=after.get(name),
        )
        for (name, layer), strength in zip(layers.items(), strengths, strict=True)
    )


def _collected(batches: Iterable[Any], *, most: int | None, is_ours: bool) -> list[Any]:
    """Return the batches, checked where the loss is ours."""
    with random_state_kept():  # which a DataLoader draws from
        collected = collect_batches(batches, most=most)
    for number, batch in enumerate(collected if is_ours else (), start=1):
        with named_errors(batch, number, len(collected), is_ours=True):
            check_batch(batch)
    return collected


def _check_in_memory(layers: Mapping[str, BaseTunerLayer]) -> None:
    for name, layer in layers.items():
        if any(tensor.is_meta for tensor in _adapter_tensors(layer)):
            raise ModelError(
                f"an adapter of {name} lies on the meta device, where it has no values: load it, "
                "and offload the base layers alone"
            )
        if not adapted_parameter(layer).numel():
            raise ModelError(
                f"the weight of {name} is empty, as DeepSpeed ZeRO-3 leaves it: initialise before "
                "the model is sharded, or train with DDP or FSDP2"
            )


class _Values:
    """The values of all adapters of some layers."""

    def __init__(self, layers: Iterable[BaseTunerLayer]) -> None:
        self._values = [
            (each, each.start if isinstance(each, Undrawn) else each.detach().clone())
            for layer in layers
            for each in _adapter_tensors(layer)
        ]

    @torch.no_grad()
    def restore(self) -> None:
        """Put them back."""
        for tensor, value in self._values:
            if isinstance(value, Start):
                value.put_off(tensor)  # type: ignore[arg-type]
            else:
                tensor.copy_(value)


def _adapter_tensors(layer: BaseTunerLayer) -> Iterator[Tensor]:
    module: nn.Module = layer  # type: ignore[assignment]
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if not name.startswith("base_layer."):
            yield tensor


def _shares(
    model: nn.Module,
    layers: Mapping[str, BaseTunerLayer],
    adapter_name: str,
    batch: Any,
    loss: Loss | None,
) -> dict[str, float]:
    """Measure, a layer, the share of the batch's gradient that the adapter can follow."""
    shares: dict[str, float] = {}
    # Asked now: while gradients are captured no parameter is marked as trainable.
    trained: dict[str, Trained] = {
        name: _what_trains(name, layer, adapter_name) for name, layer in layers.items()
    }

    @torch.no_grad()
    def measure(name: str, gradient: Tensor) -> None:
        B, A = followed_factors(layers[name], adapter_name)
        shares[name] = float(captured_share(gradient, B, A, trains=trained[name]))

    with active_adapter(model, adapter_name):
        capture_gradients(
            model,
            {name: gradient_source(layer) for name, layer in layers.items()},
            batches=[batch],
            consume=measure,
            loss=loss or summed_loss,
        )
    return shares


def _what_trains(name: str, layer: BaseTunerLayer, adapter_name: str) -> Trained:
    """Tell from the shapes of an adapter's trainable parameters which of its factors they are."""
    B, A = factors(layer, adapter_name)
    shapes = {
        unpacked.shape
        for unpacked, parameter in zip(
            unpacked_parts(layer, adapter_name).values(),
            adapter_parameters(layer, adapter_name).values(),
            strict=True,
        )
        if parameter.requires_grad
    }
    if shapes == {B.shape, A.shape}:
        return "both"
    if shapes == {B.shape}:
        return "B"
    if shapes == {A.shape}:
        return "A"
    if shapes == {(*B.shape[:-2], B.shape[-1], A.shape[-2])}:
        return "core"
    raise ModelError(
        f"measure: what {name} ({type(layer).__name__}) can follow is known only where its factors "
        "or the core between them train: leave measure out"
    )


@without_autocast()
@torch.no_grad()
def _strength(layer: BaseTunerLayer, adapter_name: str) -> Tensor:
    B, A = factors(layer, adapter_name)
    return relative_norm(B, A, base_weight(layer))


@torch.no_grad()
def _check_finite(name: str, layer: BaseTunerLayer, adapter_name: str) -> None:
    B, A = factors(layer, adapter_name)
    if not product_norm(B, A).isfinite():
        raise TrainingError(
            f"the start of {name} is not finite in its factors' {A.dtype}, and was not written: "
            "lower lr, or keep the factors in float32 (autocast_adapter_dtype=True)"
        )
