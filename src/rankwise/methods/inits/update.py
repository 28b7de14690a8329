"""LoRA-SB's start: the truncated SVD of the first update that full fine-tuning would make.

Ponkshe et al. 2024, arXiv 2411.19557, with Σ∇L the gradient of the loss summed over the batches:

    ΔW = −lr · sign(Σ∇L)   (the first step of Adam)   or   ΔW = −lr · Σ∇L   (that of SGD)
    ΔW ≈ B R A,  its best approximation of rank r  (Theorem 6)

Under ``torch.distributed`` each process brings its own batches. The gradient of a layer is summed
into one process, which decomposes it while the others are at theirs; then all get its factors, so
that every process ends with the same ones.

An adapter between frozen factors (LoraXSConfig) then trains R alone. A plain LoRA begins at the
same product, and DeLoRA takes the directions B and A and keeps its own strength. With
``start="zero"`` all of them take the directions alone and begin at ΔW = 0: what the update tells of
where to go, without the step itself.

Where we differ from the released code (CERT-Lab/lora-sb, commit 4feb81c): losses are summed and not
averaged per batch, in eval mode and float32; the global random state stays; ``lr`` is asked for and
not derived from a step count that training does not have.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, distributed, nn

from rankwise.capture.batches import count_samples
from rankwise.capture.gradients import (
    Loss,
    capture_gradients,
    gradient_dtype,
    is_distributed,
    no_gradient,
    not_finite,
    owner,
    shape_of,
)
from rankwise.capture.losses import mean_loss, rows_of, summed_loss
from rankwise.core.autocast import without_autocast
from rankwise.core.errors import ModelError, SettingsError
from rankwise.core.seeds import derive_seed
from rankwise.functional.product import Product
from rankwise.functional.svd import Blocks
from rankwise.functional.update import ascent_direction, direction_of
from rankwise.methods.adapters.bridge import (
    base_shape,
    device_of_base,
    gradient_source,
    rank,
    write_directions,
    write_factors,
)
from rankwise.methods.adapters.stacks import idle_experts
from rankwise.methods.adapters.switching import active_adapter
from rankwise.methods.inits.progress import Watch
from rankwise.methods.inits.report import Outcome
from rankwise.methods.inits.stacked import Place, StackedUpdates, label_of, room
from rankwise.methods.inits.together import FactoredTogether, Update


@dataclass(frozen=True)
class UpdateApproximation:
    """Start from the first update of full fine-tuning (LoRA-SB).

    Attributes:
        lr: Learning rate of that update: the one that training has at its first step.
        mode: ``"sign"`` for Adam and its kin, ``"raw"`` for SGD on the loss *summed* over the
            batches; ``"kaiming"`` takes a random matrix, uniform on ±1/√in, in place of the update
            and reads no batch: the paper's ablation of the update itself.
        sum_over: ``"tokens"`` adds the losses of all terms, ``"samples"`` each sample's mean over
            its terms, as the formula is written: they differ where samples have several labels.
        orthonormal: ``False`` writes B = U S and R = 1, for the paper's ablation.
        gradient_memory: Bytes that the gradients may take at a time, at the price of more passes
            over the batches; None takes them in one.
        seed: Seed of the randomised SVD of large layers.
        decomposition: How that SVD searches: ``"narrow"`` blocks of vectors, best on a CPU, or
            ``"wide"`` ones, with layers of one shape together, best on an accelerator. ``"auto"``
            goes by where a layer lies. Both meet one test of accuracy.
        skip_unused: Leave a layer that takes no part in the loss of the batches, or an expert that
            no token came to, at its own start and name it in the report; otherwise an error.
        noise: Standard deviation of Gaussian noise that is added to ΔW, for the paper's ablation of
            how much the update itself matters (1e-5 to 1e-2 there). 0 adds none.
        start: ``"update"`` begins at B R A; ``"zero"`` at ΔW = 0, along B and A: R is 0, or of
            plain LoRA B is. DeLoRA begins at zero in either case.
    """

    lr: float
    mode: Literal["sign", "raw", "kaiming"] = "sign"
    gradient_memory: int | None = None
    seed: int = 0
    decomposition: Blocks = "auto"
    skip_unused: bool = False
    noise: float = 0.0
    sum_over: Literal["tokens", "samples"] = "tokens"
    orthonormal: bool = True
    start: Literal["update", "zero"] = "update"

    def __post_init__(self) -> None:
        if not 0 < self.lr < math.inf:
            raise SettingsError(f"lr must be positive and finite, got {self.lr!r}")
        if self.mode not in ("sign", "raw", "kaiming"):
            raise SettingsError(f"mode must be 'sign', 'raw' or 'kaiming', got {self.mode!r}")
        if self.sum_over not in ("tokens", "samples"):
            raise SettingsError(f"sum_over must be 'tokens' or 'samples', got {self.sum_over!r}")
        if self.start not in ("update", "zero"):
            raise SettingsError(f"start must be 'update' or 'zero', got {self.start!r}")
        if self.start == "zero" and not self.orthonormal:
            raise SettingsError(
                "orthonormal=False puts the sizes of the update into B, and start='zero' leaves "
                "them out: give one of the two"
            )
        if not 0 <= self.noise < math.inf:
            raise SettingsError(f"noise must be 0 or more and finite, got {self.noise!r}")
        if self.decomposition not in get_args(Blocks):
            raise SettingsError(
                f"decomposition must be 'auto', 'narrow' or 'wide', got {self.decomposition!r}"
            )
        if self.gradient_memory is not None and self.gradient_memory < 1:
            raise SettingsError(
                f"gradient_memory must be a positive number of bytes, got {self.gradient_memory!r}"
            )

    @property
    def batches_at_most(self) -> int | None:
        """All batches are read; ``"kaiming"`` needs none of them, and none but the first is."""
        return 1 if self.mode == "kaiming" else None

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
        """Write the factors of ``adapter_name`` from the gradient of the model without adapters.

        Raises:
            ModelError: A rank exceeds the smaller side of its layer, or a layer has no gradient.
        """
        for name, layer in layers.items():
            _check_rank(name, layer, adapter_name)
        unused: list[str] = []
        writer = _Writer(self, layers, adapter_name, unused.append if self.skip_unused else None)
        if self.mode == "kaiming":
            batches = ()
            for name, layer in layers.items():
                writer.take(name, self._drawn(name, layer))
        else:
            batches, loss = self._summed(batches, loss)
            with active_adapter(model, None):
                capture_gradients(
                    model,
                    {name: gradient_source(layer) for name, layer in layers.items()},
                    batches=watch.through(batches, "gradients of batches"),
                    consume=writer.take,
                    loss=loss,
                    memory=self.gradient_memory,
                    is_shared_out=True,
                    consume_product=writer.take if self.mode == "raw" else None,
                    consume_none=unused.append if self.skip_unused else None,
                    is_checked=not writer.looks_at_all,
                )
        writer.finish(unused)
        if len(unused) == len(layers):
            raise ModelError("no layer takes part in the loss of these batches: pass others")
        return Outcome(
            samples=sum(count_samples(batch) for batch in batches),
            unused=tuple(sorted([*unused, *writer.idle])),
        )

    def _summed(self, batches: Sequence[Any], loss: Loss | None) -> tuple[Sequence[Any], Loss]:
        """Return batches and the loss of each, which are to be added up."""
        if self.sum_over == "tokens":
            return batches, loss or summed_loss
        if loss is not None:
            raise SettingsError("sum_over='samples' is of the model's own loss: leave loss out")
        return [row for batch in batches for row in rows_of(batch)], mean_loss

    def _drawn(self, name: str, layer: BaseTunerLayer) -> Tensor:
        """Draw what stands in for an update of the layer, over −lr."""
        source = gradient_source(layer)
        shape = shape_of(name, source)
        # On the CPU, so that a seed means the same on every device.
        generator = torch.Generator().manual_seed(derive_seed(self.seed, name, "kaiming"))
        uniform = torch.rand(shape, generator=generator, dtype=gradient_dtype(source))
        return (2 * uniform - 1) / math.sqrt(shape[-1]) / self.lr

    def ascent(self, name: str, gradient: Tensor | Product) -> Tensor | Product:
        """Return what the first update of a layer goes against, of a gradient that is checked."""
        if self.mode == "kaiming":  # it is the random matrix, not a gradient
            return self.with_noise(name, gradient)
        return self.with_noise(name, ascent_direction(gradient, self.mode))

    def unchecked_ascent(self, name: str, gradient: Tensor) -> Tensor:
        """Return the same of a gradient that is looked at later."""
        mode = "sign" if self.mode == "sign" else "raw"
        ascent = self.with_noise(name, direction_of(gradient, mode))
        return ascent if isinstance(ascent, Tensor) else ascent.dense()

    def with_noise(self, name: str, ascent: Tensor | Product) -> Tensor | Product:
        """Add the noise of an ablation, if it is asked for."""
        if not self.noise:
            return ascent
        dense = ascent if isinstance(ascent, Tensor) else ascent.dense()
        generator = torch.Generator(dense.device).manual_seed(derive_seed(self.seed, name, "noise"))
        options = {"dtype": dense.dtype, "device": dense.device}
        return dense + self.noise / self.lr * torch.randn(
            dense.shape, generator=generator, **options
        )


class _Writer:
    """Makes the first update of each layer of its gradient, and writes it.

    Attributes:
        idle: The experts that no token of the batches has come to.
    """

    def __init__(
        self,
        init: UpdateApproximation,
        layers: Mapping[str, BaseTunerLayer],
        adapter_name: str,
        give_none: Callable[[str], None] | None,
    ) -> None:
        self._init, self._layers, self._adapter_name = init, layers, adapter_name
        self._give_none = give_none
        self._made: dict[str, Update] = {}
        self._stacked = StackedUpdates(self._keep)
        self._together = FactoredTogether[Place](
            self._stacked.add,
            is_wanted=self._has_direction,
            lr=init.lr,
            blocks=init.decomposition,
        )
        self.idle: list[str] = []

    @property
    def looks_at_all(self) -> bool:
        """Whether each gradient is looked at here, together with others of its shape."""
        return all(self._together.waits(device_of_base(each)) for each in self._layers.values())

    @without_autocast()
    def take(self, name: str, gradient: Tensor | Product) -> None:
        """Take the gradient of a layer, or one a matrix of a stack."""
        r = rank(self._layers[name], self._adapter_name)
        if isinstance(gradient, Tensor) and gradient.ndim == 3:
            for expert in self._stacked.expect(name, gradient, r):
                self._decompose((name, expert), gradient[expert], r)
        else:
            self._decompose((name, None), gradient, r)

    @without_autocast()
    def finish(self, unused: list[str]) -> None:
        """Write what is left, and what other processes have made."""
        self._together.finish()
        if is_distributed():
            for each in _exchanged(self._made, self._layers, self._adapter_name, unused):
                self._write(*each)

    def _decompose(self, place: Place, gradient: Tensor | Product, r: int) -> None:
        label, init = label_of(place), self._init
        options = {"r": r, "seed": derive_seed(init.seed, label)}
        if not self._together.waits(gradient.device):
            self._together.add(place, init.ascent(label, gradient), **options)
        elif init.mode != "sign" and not init.noise:
            self._together.add(place, gradient, **options)
        else:
            gradient = gradient if isinstance(gradient, Tensor) else gradient.dense()
            if init.noise:
                changed = init.unchecked_ascent(label, gradient)
                self._together.add_changed(place, changed, gradient, **options)
            else:
                self._together.add_signs(place, gradient, **options)

    def _has_direction(self, place: Place, size: float) -> bool:
        """Tell whether a gradient is not zero, and refuse one that is not finite."""
        if not math.isfinite(size):
            raise not_finite(label_of(place))
        if not size and self._give_none is None:
            raise no_gradient(label_of(place))
        if not size and self._give_none is not None:
            self._give_none(place[0])
        return bool(size)

    def _keep(self, name: str, update: Update) -> None:
        update = update if self._init.orthonormal else _with_weights_on_the_left(update)
        if is_distributed():
            self._made[name] = update
        else:  # No adapter acts, so writing one during the backward pass disturbs nothing.
            self._write(name, update)

    def _write(self, name: str, update: Update) -> None:
        idle = [label_of((name, expert)) for expert in idle_experts(update[0])]
        if idle and not self._init.skip_unused:
            raise ModelError(
                f"no token of these batches comes to {', '.join(idle)}: pass more, or set "
                "skip_unused=True, which leaves these experts at their own start"
            )
        B, R, A = update
        if self._init.start == "zero":
            write_directions(self._layers[name], self._adapter_name, B, A)
        else:
            write_factors(self._layers[name], self._adapter_name, B, R, A)
        self.idle += idle


def _with_weights_on_the_left(update: Update) -> Update:
    B, R, A = update
    return B @ R, torch.eye(R.shape[-1], dtype=R.dtype, device=R.device).expand_as(R), A


def _exchanged(
    made: Mapping[str, Update],
    layers: Mapping[str, BaseTunerLayer],
    adapter_name: str,
    unused: Collection[str],
) -> Iterator[tuple[str, Update]]:
    """Yield in every process what the owner of each layer has made of its gradient."""
    for number, (name, layer) in enumerate(layers.items()):
        if name in unused:  # in every process, as its gradient is summed over all
            continue
        update = made.get(name)
        if update is None:
            update = _room(layer, adapter_name)
        for factor in update:
            distributed.broadcast(factor, src=owner(number))
        yield name, update


def _room(layer: BaseTunerLayer, adapter_name: str) -> Update:
    source = gradient_source(layer)
    return room(
        shape_of("the layer", source),
        rank(layer, adapter_name),
        gradient_dtype(source),
        device_of_base(layer),
    )


def _check_rank(name: str, layer: BaseTunerLayer, adapter_name: str) -> None:
    limit, r = min(base_shape(layer)), rank(layer, adapter_name)
    if r > limit:
        raise ModelError(
            f"r must be between 1 and {limit} (the smaller side of {name}), got {r}: lower it, or "
            "set the rank of this layer in rank_pattern"
        )
