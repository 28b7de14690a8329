"""Chains of adapters: RAC-LoRA and COLA, the mechanism without any trainer.

RAC-LoRA (Malinovsky et al. 2024, arXiv 2410.08305, Algorithm 1): in each block one factor is a
fresh sketch and stays frozen, the other starts at zero and trains; then

    W ← W + s B A,        s = lora_alpha / r

and the next block begins. COLA (Xia et al. 2024, arXiv 2401.04151) is the same with both factors
trained. The inner solver is whoever trains the model: epochs of AdamW or, as in the paper's
analysis (Eq. 3-4), one gradient step.

Differences from the released code (hammoudhasan/RACLora, commit 7354fd2): one factor is frozen, as
in the paper and not as in the script; the scaling has its 1/r; the optimizer forgets a block that
is over; the base weight is summed anew from the pretrained one at each fold, and restored at the
end.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self, cast

import torch
from peft import PeftConfig
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from torch.nn.functional import pad

from rankwise.core.errors import ChainError, ModelError, SettingsError
from rankwise.functional.compress import compress
from rankwise.functional.sketch import Kind
from rankwise.methods.adapters import bridge
from rankwise.methods.adapters.quantised import keep_differentiable
from rankwise.methods.adapters.sharded import assign, is_sharded
from rankwise.methods.chain.attach import check_openable, close_layer, open_layer, way_back
from rankwise.methods.chain.config import ChainConfig, check_config, mark, unmark
from rankwise.methods.chain.layer import Factors, OpenedLayer
from rankwise.methods.chain.ledger import (
    ChainIdentity,
    Layout,
    Ledger,
    check_identity,
    check_layout,
    key_of,
    read_ledger,
    write_ledger,
)
from rankwise.methods.chain.sketches import Gradients, Side, Sketcher


@dataclass(frozen=True)
class ChainReport:
    """What a finished chain came to.

    Attributes:
        blocks: Blocks it had, the adapter that it found and the last one included.
        rank: Rank of the LoRA that it left.
        errors: Per layer that was compressed to ``final_rank``, its relative Frobenius error.
    """

    blocks: int
    rank: int
    errors: dict[str, float]


class Chain:
    """A chain of low-rank adapters in the place of one plain LoRA adapter of a PEFT model.

    Making it prepares the model at once, so make it before the optimizer. Then train, :meth:`fold`
    after each block and :meth:`finish`; as a context manager it finishes by itself, also after an
    exception. In between the model computes, saves and is copied as it should, and refuses what
    would go wrong (``merged_history.py``). An adapter that has learned something already,
    by an init or by training, becomes the first block.

    It costs a copy of each adapted base weight and all factors in main memory, and at each fold one
    matrix product (out, Σr) (Σr, in) a layer. Over a quantised weight nothing is folded: finished
    blocks act beside it.

    An exception amid its making, a fold or a load leaves every layer as it was.

    Args:
        model: A PEFT model with a plain LoRA over linear layers.
        side: The sketched factor: ``left`` is B, ``right`` is A; ``both`` starts A from a sketch
            and B at zero and trains the two (COLA).
        sketch: A kind of :func:`rankwise.functional.sketch`. None takes ``gaussian``, the paper's;
            for ``both`` it takes ``kaiming``, PEFT's start of A.
        seed: The sketch of a layer in block t is drawn from (seed, layer, t) and nothing else.
        adapter_name: The adapter to be chained.
        gradients: For ``sketch="gradient"`` and no other: called before each block, at the weights
            in effect, for the gradients of the base layers.

    Raises:
        SettingsError: An argument is wrong; nothing was changed.
        ModelError: The model cannot carry a chain; nothing was changed.

    Example:
        >>> with Chain(model, side="right", sketch="orthonormal") as chain:  # doctest: +SKIP
        ...     optimizer = torch.optim.AdamW(p for p in model.parameters() if p.requires_grad)
        ...     for block in range(10):
        ...         if block:
        ...             chain.fold(optimizer)
        ...         train_some_epochs(model, optimizer)
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        side: Side = "left",
        sketch: Kind | None = None,
        seed: int = 0,
        adapter_name: str = "default",
        gradients: Gradients | None = None,
    ) -> None:
        kind = sketch or ("kaiming" if side == "both" else "gaussian")
        self.model = model
        self.adapter_name = adapter_name
        self._sketcher = Sketcher(side, kind, seed, adapter_name, gradients)
        layers = bridge.adapted_layers(model, adapter_name)
        config = check_config(model, adapter_name)
        _check_layers(model, layers, adapter_name)
        keep_differentiable(model)
        factors = [bridge.factors(layer, adapter_name) for layer in layers.values()]
        self._is_inherited = any(bool(B.any() and A.any()) for B, A in factors)
        sketches = self._sketcher.draw_all(layers, int(self._is_inherited))
        frozen = [f"lora_{self._sketcher.factor}"] if self._sketcher.is_frozen else []
        self._layers: dict[str, OpenedLayer] = {}
        with contextlib.ExitStack() as undo:  # all layers are opened, or none
            for name, layer in layers.items():
                undo.callback(way_back(layer, adapter_name))
                opened = self._layers[name] = open_layer(layer, adapter_name)
                bridge.freeze(opened, adapter_name, frozen)
                inherited = [opened.open_block()] if self._is_inherited else []
                self._begin_block(opened, inherited, sketches[name])
            undo.pop_all()
        self._configs[adapter_name] = mark(config, self)

    @property
    def is_open(self) -> bool:
        """Whether the chain goes on: it was not finished and its adapter not deleted."""
        return all(isinstance(layer, OpenedLayer) for layer in self._layers.values())

    @property
    def folds(self) -> int:
        """The number of blocks that lie folded in the base weights.

        Raises:
            ChainError: The chain is over.
        """
        self._check_open()
        return len(next(iter(self._layers.values())).history.blocks)

    def fold(self, optimizer: torch.optim.Optimizer | None = None) -> None:
        """Fold the block into the base and begin the next; the model's outputs stay as they are.

        W ← round(W₀ + s Σ Bᵢ Aᵢ); one factor becomes a fresh sketch, the other zero, in place. An
        ``optimizer`` that is given forgets the moments and step counts of the factors that it
        trained; otherwise the next block goes on with them.

        Raises:
            ChainError: The chain is over, or ``optimizer`` does not train its factors.
        """
        block = self.folds + 1
        if optimizer is not None:
            self.check_optimizer(optimizer)
        sketches = self._sketcher.draw_all(self._layers, block)
        with self._all_or_none() as layers:
            for name, layer in layers:
                blocks = [*layer.history.blocks, layer.open_block()]
                self._begin_block(layer, blocks, sketches[name])
        if optimizer is not None:
            for parameter in self._parameters(trained=True):
                optimizer.state.pop(parameter, None)

    def check_optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        """Refuse an optimizer that was built before the chain, or for another model.

        Raises:
            ChainError: It lacks a trained factor or holds a frozen sketch, or the chain is over.
        """
        self._check_open()
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        lacks = any(id(parameter) not in held for parameter in self._parameters(trained=True))
        if lacks or any(id(parameter) in held for parameter in self._parameters(trained=False)):
            raise ChainError(
                f"the optimizer {'lacks trained factors' if lacks else 'holds frozen sketches'} of "
                "the chain: build it after the chain, from the parameters that require a gradient"
            )

    def finish(self, *, final_rank: int | None = None) -> ChainReport:
        """Restore the base bit for bit and leave one plain LoRA of rank Σr and scaling 1 beside it.

        A last block in which nothing was trained is left out. Where ranks differ between layers,
        the smaller ones are filled up with zeros.

        Args:
            final_rank: Compress the change of each layer to this rank, where it has a larger one.

        Raises:
            ChainError: The chain is over; or the model is sharded, and the chain still open.
            SettingsError: ``final_rank`` is less than 1; the chain is still open.
            ValueError: A factor that had to be compressed is not finite; the chain is finished.
        """
        if final_rank is not None and final_rank < 1:
            raise SettingsError(f"final_rank must be at least 1, got {final_rank}")
        blocks = self.folds + 1
        if any(is_sharded(parameter) for parameter in self._parameters(trained=True)):
            raise ChainError(
                "a chain cannot be finished in a sharded model, whose parameters cannot change in "
                "shape: save() it, make the chain anew in one process, load() and finish() it there"
            )
        factors = {
            name: bridge.factors(layer, self.adapter_name) for name, layer in self._layers.items()
        }
        errors = {}
        try:
            for name, (B, A) in factors.items():
                if final_rank is not None and len(A) > final_rank:
                    B, A, errors[name] = compress([(B, A)], final_rank)
                    factors[name] = B, A
        finally:  # also where a factor is not finite, the base is restored
            rank = self._close(factors)
        return ChainReport(blocks, rank, errors)

    def save(self, directory: str | Path) -> None:
        """Write the ledger, from which :meth:`load` brings this state back.

        ``save_pretrained`` of the model does so by itself while the chain is open.

        Raises:
            ChainError: The chain is over.
        """
        folds, tensors = self.folds, {}
        for name, layer in self._layers.items():
            for block, (B, A) in enumerate([*layer.history.blocks, layer.open_block()]):
                for factor, tensor in (("B", B), ("A", A)):
                    if self._is_stored(factor, block, is_inherited=self._is_inherited):
                        tensors[key_of(name, block, factor)] = tensor.contiguous()
        write_ledger(Path(directory), Ledger(self._identity(), folds, self._is_inherited, tensors))

    def load(self, directory: str | Path) -> None:
        """Bring the model and the chain to the state that :meth:`save` wrote, bit for bit.

        Raises:
            ChainError: The chain is over.
            AdapterError: The ledger is damaged or of a chain that was set up otherwise; nothing was
                changed.
        """
        self._check_open()
        ledger = read_ledger(Path(directory))
        check_identity(ledger.identity, self._identity())
        check_layout(ledger.tensors, self._layout(ledger))
        with self._all_or_none() as layers:
            for name, layer in layers:
                blocks = [self._recall(name, block, ledger) for block in range(ledger.folds + 1)]
                layer.write(blocks[:-1], blocks[-1])
        self._is_inherited = ledger.is_inherited

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.is_open:
            self.finish()

    @property
    def _configs(self) -> dict[str, PeftConfig]:
        return cast(dict[str, PeftConfig], self.model.peft_config)

    def _check_open(self) -> None:
        if not self.is_open:
            raise ChainError(
                f"the chain of adapter {self.adapter_name!r} is over (finished, or its adapter was "
                "deleted): make a new one; it begins with what the adapter has learned"
            )

    def _pair(self, layer: BaseTunerLayer) -> dict[str, nn.Parameter]:
        parts = bridge.adapter_parameters(layer, self.adapter_name)
        return {"B": parts["lora_B"], "A": parts["lora_A"]}

    def _parameters(self, *, trained: bool) -> list[nn.Parameter]:
        return [
            parameter
            for layer in self._layers.values()
            for factor, parameter in self._pair(layer).items()
            if trained == (factor != self._sketcher.factor or not self._sketcher.is_frozen)
        ]

    @contextlib.contextmanager
    def _all_or_none(self) -> Iterator[Iterator[tuple[str, OpenedLayer]]]:
        """Hand out the layers to be changed; after an exception all are as they were."""
        with contextlib.ExitStack() as undo:

            def each() -> Iterator[tuple[str, OpenedLayer]]:
                for name, layer in self._layers.items():
                    undo.callback(layer.write, layer.history.blocks, layer.open_block())
                    yield name, layer

            yield each()
            undo.pop_all()

    @torch.no_grad()
    def _begin_block(self, layer: OpenedLayer, blocks: list[Factors], sketch: Tensor) -> None:
        """Make ``blocks`` the layer's history and begin the next: a sketch beside a zero factor."""
        layer.set_blocks(blocks)
        for factor, parameter in self._pair(layer).items():
            parameter.grad = None
            if factor == self._sketcher.factor:
                assign(parameter, sketch)
            else:
                parameter.zero_()

    def _close(self, factors: Mapping[str, Factors]) -> int:
        rank = max(len(A) for _, A in factors.values())
        padded = {
            name: (pad(B, (0, rank - len(A))), pad(A, (0, 0, 0, rank - len(A))))
            for name, (B, A) in factors.items()
        }
        with contextlib.ExitStack() as restored:  # from here on every base comes back
            for layer in self._layers.values():
                restored.callback(_restore, layer)
            for name, pair in padded.items():
                close_layer(self._layers[name], *pair)
        config = cast(ChainConfig, self._configs[self.adapter_name])
        self._configs[self.adapter_name] = unmark(config, rank)
        return rank

    def _identity(self) -> ChainIdentity:
        layers = {
            name: [
                *bridge.base_shape(layer),
                bridge.rank(layer, self.adapter_name),
                layer.history.scaling,
            ]
            for name, layer in self._layers.items()
        }
        sketcher = self._sketcher
        return ChainIdentity(sketcher.side, sketcher.kind, sketcher.seed, layers)

    def _is_stored(self, factor: str, block: int, *, is_inherited: bool) -> bool:
        """Whether the ledger holds a factor: it does, unless a seed gives it back."""
        is_drawn = factor == self._sketcher.factor and not (is_inherited and block == 0)
        return not (is_drawn and self._sketcher.is_recallable)

    def _layout(self, ledger: Ledger) -> Layout:
        return {
            key_of(name, block, factor): (tuple(parameter.shape), parameter.dtype)
            for name, layer in self._layers.items()
            for factor, parameter in self._pair(layer).items()
            for block in range(ledger.folds + 1)
            if self._is_stored(factor, block, is_inherited=ledger.is_inherited)
        }

    def _recall(self, name: str, block: int, ledger: Ledger) -> Factors:
        """Return B and A of a block, the sketch drawn again where the ledger leaves it out."""
        layer = self._layers[name]
        B, A = (
            ledger.tensors[key]
            if (key := key_of(name, block, factor)) in ledger.tensors
            else self._sketcher.draw(name, layer, block).to(parameter.dtype)
            for factor, parameter in self._pair(layer).items()
        )
        return B, A


def _restore(layer: BaseTunerLayer) -> None:
    if isinstance(layer, OpenedLayer):
        layer.restore()


def _check_layers(
    model: nn.Module, layers: Mapping[str, BaseTunerLayer], adapter_name: str
) -> None:
    owners = Counter(id(p) for _, p in model.named_parameters(remove_duplicate=False))
    for name, layer in layers.items():
        check_openable(name, layer)
        if owners[id(layer.get_base_layer().weight)] > 1:
            raise ModelError(
                f"{name} shares its weight with another module, which a fold would change too: "
                "leave it out of target_modules"
            )
        out_features, in_features = bridge.base_shape(layer)
        limit = min(out_features, in_features)
        if (r := bridge.rank(layer, adapter_name)) > limit:
            limit_name = "output side" if out_features == limit else "input side"
            raise ModelError(
                f"r must be between 1 and {limit} (the {limit_name} of {name}), got {r}: "
                "lower it, or give this layer its own with rank_pattern"
            )
