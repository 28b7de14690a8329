"""ABM-LoRA's start: adapter factors that put pre-activations on the reference's side of zero.

ABM-LoRA 2025, arXiv 2511.19145, Eq. 22. With z the pre-activations of the adapted model (the
student) and τ the signs of a reference's, the adapter alone is trained for some steps on

    L = Σ_l w_l² [max(0, m − τ z)]²

Paper and released code (lee-research/ABM-LoRA, commit 39fac98) mean two different references, and
the report says which was used:

- ``"pretrained"``: the frozen model itself, here the same model with its adapters off. A fresh
  LoRA agrees with it in every sign, so only the margin acts: near-zero pre-activations move away
  from zero, and a margin of 0 changes nothing.
- ``"adapter"``: an adapter trained on the task before (the code's stage 1). Then this is
  distillation, and that training is part of its cost.

Where we differ from the code: padding does not count; the student runs in eval mode, since dropout
would move signs at random; layers are weighed inside their own stack; a batch whose loss is zero
takes no step, weight decay included; what cannot be matched is an error.

Under ``torch.distributed`` each process brings its own batches, as many as the others, and a step
follows the mean of their gradients, so that all end with the same factors.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, distributed, nn

from rankwise.capture.batches import borrowed, count_samples, named_errors
from rankwise.capture.bits import Bits, pack_bits, unpack_bits
from rankwise.capture.gradients import Loss, is_distributed
from rankwise.capture.losses import ITEMS_IN_BATCH
from rankwise.core.errors import ModelError, SettingsError, TrainingError
from rankwise.core.modules import device_of, replaced
from rankwise.functional.boundary import (
    boundary_loss,
    first_not_finite,
    sign_agreement,
    unchecked_boundary_loss,
)
from rankwise.methods.adapters.bridge import adapter_parameters, is_sharded
from rankwise.methods.adapters.fused import fused_lora
from rankwise.methods.adapters.switching import active_adapter, has_adapter, loaded_adapter
from rankwise.methods.adapters.working_copies import WorkingCopies
from rankwise.methods.inits.monitored import Monitor, find_monitored
from rankwise.methods.inits.progress import Watch
from rankwise.methods.inits.report import MonitoredLayer, Outcome
from rankwise.methods.optimizer import strengths_of


@dataclass(frozen=True)
class BoundaryMatching:
    """Start from factors that match a reference's activation boundaries (ABM-LoRA).

    Attributes:
        margin: m, how far from zero a pre-activation is pushed.
        steps: Optimizer steps, one batch each; the batches are gone through again when they run
            out.
        lr: Learning rate of the AdamW that trains the adapter here; training gets a new optimizer.
        weight_decay: Of that AdamW; the strengths λ of DeLoRA do not decay.
        reference: None for the pretrained model; else the name of an adapter of the model, or the
            directory of one, which is loaded for a moment.
        layers: Names of the modules whose outputs are the pre-activations, all of which are
            monitored. None finds the inputs of activation modules.
        last: Blocks of each stack that are monitored, from its end. None is half of them, the
            released code's 6 of 12. Not together with ``layers``.
        power: Of the layer weights ((l+1)/L)^power, which multiply once (the w² of Eq. 22).
        reduction: ``"mean"`` over the neurons of a layer and over layers, as the released code;
            ``"sum"`` over both, as Eq. 22.
    """

    margin: float = 0.5
    steps: int = 100
    lr: float = 3e-4
    weight_decay: float = 0.01
    reference: str | Path | None = None
    layers: Sequence[str] | None = None
    last: int | None = None
    power: float = 2
    reduction: Literal["mean", "sum"] = "mean"

    def __post_init__(self) -> None:
        if not 0 < self.lr < math.inf:
            raise SettingsError(f"lr must be positive and finite, got {self.lr!r}")
        for name in ("margin", "weight_decay", "power"):
            if not 0 <= getattr(self, name) < math.inf:
                raise SettingsError(f"{name} must be 0 or more, got {getattr(self, name)!r}")
        for name in ("steps", "last"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise SettingsError(f"{name} must be 1 or more, got {getattr(self, name)!r}")
        if self.reduction not in ("mean", "sum"):
            raise SettingsError(f"reduction must be 'mean' or 'sum', got {self.reduction!r}")
        if self.layers is not None and (self.last is not None or not self.layers):
            raise SettingsError(
                f"layers names all that is monitored: give one or more and leave last out, got "
                f"layers={self.layers!r} and last={self.last!r}"
            )

    @property
    def batches_at_most(self) -> int:
        """One batch a step."""
        return self.steps

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
        """Train the parameters of ``adapter_name`` on Eq. 22; in eval mode, all else untouched.

        Raises:
            DataError: A batch cannot be run, or its mask does not fit.
            ModelError: Nothing is found to monitor, or nothing of the adapter influences it.
            TrainingError: An activation or the loss is not finite.
        """
        model.eval()
        parameters = _trainable(layers, adapter_name)
        strengths = {id(parameter) for parameter in strengths_of(model)}
        decays = [0.0 if id(each) in strengths else self.weight_decay for each in parameters]
        used = batches[: self.steps]
        forward = _Forward(model, used, loss)
        with torch.no_grad(), _reference_acts(model, self.reference, adapter_name):
            monitor = find_monitored(
                model, forward(0), layers=self.layers, last=self.last, power=self.power
            )
            matcher = _Matcher(monitor, forward, used, self.margin, self.reduction)
        with active_adapter(model, adapter_name), replaced(model, parameters) as masters:
            copies = WorkingCopies(masters)
            with fused_lora(layers.values(), copies):
                before = matcher.agreement()
                losses = self._train(matcher, masters, copies, decays=decays, watch=watch)
                after = matcher.agreement()
            trained = [master.detach() for master in masters]
        with torch.no_grad():
            for parameter, value in zip(parameters, trained, strict=True):
                parameter.copy_(value)
        if not any(losses):
            warnings.warn(
                "every pre-activation kept its margin already: the adapter begins as it was; a "
                "larger margin or another reference would change it",
                stacklevel=3,  # where initialize was called
            )
        return Outcome(
            samples=sum(count_samples(batch) for batch in used),
            reference="pretrained" if self.reference is None else "adapter",
            losses=tuple(losses),
            steps=sum(value > 0 for value in losses),
            monitored=tuple(
                MonitoredLayer(call.name, call.weight, *shares)
                for call, *shares in zip(monitor.calls, before, after, strict=True)
            ),
        )

    def _train(
        self,
        matcher: _Matcher,
        parameters: list[nn.Parameter],
        copies: WorkingCopies,
        *,
        decays: list[float],
        watch: Watch,
    ) -> list[float]:
        # Hundreds of small factors: one operation for all of them, where there is a GPU.
        is_fused = all(parameter.device.type == "cuda" for parameter in parameters) or None
        groups = [
            {"params": [p for p, decay in zip(parameters, decays, strict=True) if decay == each]}
            | {"weight_decay": each}
            for each in dict.fromkeys(decays)
        ]
        optimizer = torch.optim.AdamW(groups, lr=self.lr, fused=is_fused)
        losses = []
        for step in watch.through(range(self.steps), "boundary matching steps"):
            copies.refresh()
            index = step % len(matcher.batches)
            loss = matcher.loss(index)
            losses.append(float(_mean_over_processes(loss.detach())))
            if not math.isfinite(losses[-1]):
                matcher.check(index)
                raise TrainingError(f"the boundary loss is {losses[-1]}: lower lr or margin")
            if losses[-1]:
                _set_gradients(parameters, copies.gradients(loss) if loss.requires_grad else [])
                optimizer.step()
                optimizer.zero_grad()  # not to be held beside those of the next step
        return losses


class _Matcher:
    """The batches, the reference's signs on them as bits, and the student's distance from these."""

    def __init__(
        self,
        monitor: Monitor,
        forward: _Forward,
        batches: Sequence[Any],
        margin: float,
        reduction: Literal["mean", "sum"],
    ) -> None:
        self.monitor = monitor
        self.batches = batches
        self._forward = forward
        self._margin = margin
        self._reduction: Literal["mean", "sum"] = reduction
        self._signs: list[list[Bits]] = []
        self._masks: list[list[Tensor | None]] = []
        for index in range(len(batches)):
            self._see_reference(index)

    def loss(self, index: int) -> Tensor:
        """Return the loss of Eq. 22 on one batch, not finite where :meth:`check` says why."""
        return unchecked_boundary_loss(**self._arguments(index))

    @torch.no_grad()
    def check(self, index: int) -> None:
        """Refuse activations that are not finite, by name, and a batch of which nothing counts."""
        arguments = self._arguments(index)
        self._check_finite(arguments["student"], arguments["masks"])
        boundary_loss(**arguments)

    @torch.no_grad()
    def agreement(self) -> list[float]:
        """Return, a layer, the share of equal signs of student and reference on the first batch."""
        values, masks = self._activations(0), self._masks[0]
        self._check_finite(values, masks)
        layers = zip(values, unpack_bits(self._signs[0]), masks, strict=True)
        return [
            float(sign_agreement([value], [signs], masks=[mask])) for value, signs, mask in layers
        ]

    def _see_reference(self, index: int) -> None:
        values = self._activations(index)
        masks = [
            None if mask is None else mask.to(value.device)
            for mask, value in zip(
                self.monitor.masks(self.batches[index], values), values, strict=True
            )
        ]
        self._check_finite(values, masks)
        self._signs.append([pack_bits(value > 0) for value in values])
        self._masks.append(masks)

    def _arguments(self, index: int) -> dict[str, Any]:
        return {
            "student": self._activations(index),
            "reference": unpack_bits(self._signs[index]),
            "margin": self._margin,
            "layer_weights": [call.weight for call in self.monitor.calls],
            "masks": self._masks[index],
            "reduction": self._reduction,
        }

    def _activations(self, index: int) -> list[Tensor]:
        return self.monitor.activations(self._forward(index))

    def _check_finite(self, values: list[Tensor], masks: list[Tensor | None]) -> None:
        layer = first_not_finite(values, masks)
        if layer is not None:
            name = self.monitor.calls[layer].name
            raise TrainingError(
                f"the activations of {name} are not finite: check batches and model"
            )


@contextlib.contextmanager
def _reference_acts(
    model: nn.Module, reference: str | Path | None, adapter_name: str
) -> Iterator[None]:
    """Turn ``model`` into the reference for a moment."""
    if reference == adapter_name:
        raise SettingsError(
            f"reference must differ from the adapter to initialise, got {reference!r} for both"
        )
    if reference is None or (isinstance(reference, str) and has_adapter(model, reference)):
        with active_adapter(model, reference):
            yield
    else:
        with loaded_adapter(model, Path(reference)) as name, active_adapter(model, name):
            yield


def _trainable(layers: Mapping[str, BaseTunerLayer], adapter_name: str) -> list[nn.Parameter]:
    parameters = [
        parameter
        for layer in layers.values()
        for parameter in adapter_parameters(layer, adapter_name).values()
        if parameter.requires_grad
    ]
    if any(is_sharded(parameter) for parameter in parameters):
        raise ModelError(
            "boundary matching ends forward passes early, which a sharded model does not survive: "
            "initialise before fully_shard, or in one process"
        )
    if not parameters:
        raise ModelError(
            f"no parameter of adapter {adapter_name!r} trains: call "
            f"model.set_adapter({adapter_name!r}) first"
        )
    return parameters


class _Forward:
    """Makes a forward pass of a batch: ``loss(model, batch)`` or ``model(**batch)``."""

    def __init__(self, model: nn.Module, batches: Sequence[Any], loss: Loss | None) -> None:
        self._model = model
        self._batches = batches
        self._loss = loss

    def __call__(self, index: int) -> Callable[[], object]:
        """Return the pass of the batch of that number."""
        return partial(self._run, index)

    def _run(self, index: int) -> object:
        batch = borrowed(self._batches[index], device_of(self._model))
        is_ours, total = self._loss is None, len(self._batches)
        with named_errors(batch, index + 1, total, is_ours=is_ours):
            if self._loss is not None:
                return self._loss(self._model, batch)
            return self._model(**{key: batch[key] for key in batch if key != ITEMS_IN_BATCH})


def _set_gradients(parameters: list[nn.Parameter], gradients: list[Tensor | None]) -> None:
    if all(gradient is None for gradient in gradients):
        raise ModelError(
            "no monitored layer depends on the adapter: adapt layers before them, or name others"
        )
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if is_distributed():
            mine = torch.zeros_like(parameter) if gradient is None else gradient
            parameter.grad = _mean_over_processes(mine)
        else:
            parameter.grad = gradient


def _mean_over_processes(value: Tensor) -> Tensor:
    if not is_distributed():
        return value
    total = value.clone()
    distributed.all_reduce(total)
    return total / distributed.get_world_size()
