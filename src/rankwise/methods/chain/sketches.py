"""Which factors of a block begin as sketches, and how: one rule for a run, a fresh draw a block."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol, cast, get_args

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor

from rankwise.capture.stacks import Source
from rankwise.core.cores import usable_cores
from rankwise.core.errors import ModelError, SettingsError, nearest_names
from rankwise.core.seeds import derive_seed
from rankwise.functional.sketch_kinds import BOTH, SKETCH_KINDS, ChainSide, Kind
from rankwise.functional.sketches import sketch, sketch_pair
from rankwise.methods.adapters import bridge
from rankwise.methods.adapters.stacks import adapted_parameter, number_of_experts
from rankwise.methods.chain.layer import Sketches

# Sketches that take no decomposition, whose digits would depend on the threads it has.
_DRAWN_AT_ONCE = ("gaussian", "kaiming", "selector")


class Gradients(Protocol):
    """A source of full-weight gradients, as is ``capture_gradients`` with model and batches."""

    def __call__(
        self, layers: Mapping[str, Source], *, consume: Callable[[str, Tensor], None]
    ) -> None:
        """Hand the gradient (out, in) of each layer to ``consume(name, gradient)``."""
        ...


class _Drawn(Mapping[str, Sketches]):
    """Sketches by layer that threads are drawing: each is waited for when it is asked for."""

    def __init__(self, drawn: Mapping[str, Future[Sketches]]) -> None:
        self._drawn = drawn

    def __getitem__(self, name: str) -> Sketches:
        return self._drawn[name].result()

    def __iter__(self) -> Iterator[str]:
        return iter(self._drawn)

    def __len__(self) -> int:
        return len(self._drawn)


@dataclass(frozen=True)
class Sketcher:
    """Draws the sketches of a chain; its fields are those of ``Chain``.

    Without a ``side`` both factors of a block are sketches.

    Raises:
        SettingsError: ``side`` or ``kind`` does not exist, or ``gradients`` and ``kind`` do not
        fit.
    """

    side: ChainSide | None
    kind: Kind
    seed: int
    adapter_name: str
    gradients: Gradients | None

    def __post_init__(self) -> None:
        for name, value, known in (
            ("side", self.side, get_args(ChainSide)),
            ("sketch", self.kind, SKETCH_KINDS),
        ):
            if value is not None and value not in known:
                raise SettingsError(f"no {name} {value!r}; {nearest_names(str(value), known)}")
        if (self.gradients is not None) != (self.kind == "gradient"):
            raise SettingsError(
                "gradients (of a ChainCallback: batches) go with sketch='gradient' and no other, "
                f"got sketch={self.kind!r} {'without' if self.gradients is None else 'with'} them"
            )

    @property
    def factors(self) -> tuple[str, ...]:
        """The factors that begin as sketches, ``B`` or ``A`` or both; another begins at zero."""
        if self.side is None:
            return ("B", "A")
        return ("B",) if self.side in ("left", "both-left") else ("A",)

    @property
    def frozen(self) -> str | None:
        """The one factor that stays as it was drawn beside a trained one, if there is one."""
        return None if self.side is None or self.side in BOTH else self.factors[0]

    @property
    def is_recallable(self) -> bool:
        """Whether the sketched factor of a finished block can be drawn again."""
        return self.frozen is not None and self.kind != "gradient"

    def draw_all(self, layers: Mapping[str, BaseTunerLayer], block: int) -> Mapping[str, Sketches]:
        """Draw the sketches of each layer for a block; beside an accelerator, while it works.

        Raises:
            ModelError: ``gradients`` left a layer out.
        """
        if self.gradients is None:
            return self._draw_from_seeds(layers, block)
        sketches: dict[str, Sketches] = {}

        def consume(name: str, gradient: Tensor) -> None:
            sketches[name] = self.draw(name, layers[name], block, gradient=gradient)

        bases = {name: bridge.gradient_source(layer) for name, layer in layers.items()}
        self.gradients(bases, consume=consume)
        if missing := layers.keys() - sketches.keys():
            raise ModelError(f"gradients left out {sorted(missing)}: hand on one for each layer")
        return sketches

    def _draw_from_seeds(
        self, layers: Mapping[str, BaseTunerLayer], block: int
    ) -> Mapping[str, Sketches]:
        if self.kind not in _DRAWN_AT_ONCE or not _are_beside_accelerator(layers.values()):
            return {name: self.draw(name, layer, block) for name, layer in layers.items()}
        # Each has a generator of its own, so that their order does not matter.
        threads = ThreadPoolExecutor(min(len(layers), usable_cores()))
        drawn = {
            name: threads.submit(self._drawn_to_be_sent, name, layer, block)
            for name, layer in layers.items()
        }
        threads.shutdown(wait=False)
        return _Drawn(drawn)

    def _drawn_to_be_sent(self, name: str, layer: BaseTunerLayer, block: int) -> Sketches:
        """Draw the sketches of one layer, into memory from which an accelerator takes them."""
        drawn = self.draw(name, layer, block)
        if adapted_parameter(layer).device.type != "cuda":
            return drawn
        return {factor: each.pin_memory() for factor, each in drawn.items()}

    def draw(
        self, name: str, layer: BaseTunerLayer, block: int, *, gradient: Tensor | None = None
    ) -> Sketches:
        """Draw the sketches of one layer for a block: the same again for the same arguments.

        What is drawn at random is a factor itself, as at an adapter's own start; the directions of
        a gradient are those of the weight's change.
        """
        drawn = self._draw_each(name, layer, block, gradient)
        if self.side is None and gradient is not None:
            return {**drawn, "A": cast(Any, layer).rows_along(self.adapter_name, drawn["A"])}
        return drawn

    def _draw_each(
        self, name: str, layer: BaseTunerLayer, block: int, gradient: Tensor | None
    ) -> Sketches:
        experts = number_of_experts(layer)
        if experts is None:
            return self._draw(layer, (name, block), gradient)
        drawn = [
            self._draw(layer, (name, block, expert), None if gradient is None else gradient[expert])
            for expert in range(experts)
        ]
        return {factor: torch.stack([each[factor] for each in drawn]) for factor in self.factors}

    def _draw(
        self, layer: BaseTunerLayer, place: tuple[str | int, ...], gradient: Tensor | None
    ) -> Sketches:
        shape, r = bridge.base_shape(layer), bridge.rank(layer, self.adapter_name)
        # On the CPU, so that a seed means the same on every device.
        generator = torch.Generator().manual_seed(derive_seed(self.seed, *place))
        drawn: dict[str, Any] = {"kind": self.kind, "generator": generator, "gradient": gradient}
        if self.side is None:
            return dict(zip("BA", sketch_pair(shape, r, **drawn), strict=True))
        (factor,) = self.factors
        return {factor: sketch(shape, r, side="left" if factor == "B" else "right", **drawn)}


def _are_beside_accelerator(layers: Iterable[BaseTunerLayer]) -> bool:
    """Tell whether the cores of the CPU have nothing else to do in a fold."""
    return any(adapted_parameter(layer).device.type != "cpu" for layer in layers)
