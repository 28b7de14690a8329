"""Chains of adapters: RAC-LoRA and COLA, the mechanism without any trainer.

RAC-LoRA (Malinovsky et al. 2024, arXiv 2410.08305, Algorithm 1): in each block one factor is a
fresh sketch and stays frozen, the other starts at zero and trains; then

    W ← W + s B A,        s = lora_alpha / r

and the next block begins. COLA (Xia et al. 2024, arXiv 2401.04151) is the same with both factors
trained. Where the adapter is LoRA-XS or DeLoRA, which is ours, a block is one of these: it begins
at ΔW = 0 in two fresh sketches. The inner solver is whoever trains the model.

Differences from the released code (hammoudhasan/RACLora, commit 7354fd2): one factor is frozen, as
in the paper and not as in the script; the scaling has its 1/r; the optimizer forgets a block that
is over; the base weight is summed anew from the pretrained one at each fold, and restored last.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import cast

import torch
from peft import PeftConfig
from torch import nn
from torch.nn.functional import pad

from rankwise.core.autocast import without_autocast
from rankwise.core.errors import AdapterError, ChainError, ModelError, SettingsError, TrainingError
from rankwise.core.interrupts import EndsInTwoSteps, Step, all_or_none, go_back
from rankwise.functional.compression import compress_above
from rankwise.functional.sketch_kinds import ChainSide, Kind, MomentsAtFold
from rankwise.methods.adapters import bridge
from rankwise.methods.adapters.quantised import keep_differentiable
from rankwise.methods.chain.attach import (
    check_layers,
    close_layer,
    drop_history,
    has_learned,
    new_histories,
    open_layer,
    plain_factors,
    way_back,
)
from rankwise.methods.chain.config import (
    ChainMark,
    check_config,
    check_moments,
    finished,
    mark,
    start_of_block,
    unmark,
)
from rankwise.methods.chain.layer import Factors, History, OpenedLayer, Sketches
from rankwise.methods.chain.ledger import folder_of, read_ledger, write_ledger
from rankwise.methods.chain.optimizers import Moments, check_optimizer
from rankwise.methods.chain.plain import become_lora_model, plain_layer, way_back_of_model
from rankwise.methods.chain.recalling import Past, Recalled, ledger_of, recall
from rankwise.methods.chain.report import ChainReport
from rankwise.methods.chain.sketches import Gradients, Sketcher
from rankwise.methods.chain.waiting import (
    BaseDevice,
    check_base_device,
    settle,
    with_open_block,
    write_histories,
)


class Chain(EndsInTwoSteps):
    """A chain of low-rank adapters in the place of one adapter of a PEFT model.

    Making it prepares the model at once, so make it before the optimizer. Then train, :meth:`fold`
    after each block and :meth:`finish`; as a context manager it finishes by itself, also after an
    exception. In between the model computes, saves and is copied as it should, and refuses what
    would go wrong (``layer.py``). What an adapter has learned already becomes the first block.

    It costs a copy of each adapted base weight and all factors, in main memory or on the device,
    and at each fold one matrix product (out, Σr) (Σr, in) a layer. Over a quantised weight nothing
    is folded: finished blocks act beside it.

    An exception, Ctrl-C too, amid its making, a fold, a load or its end leaves model, chain and
    optimizer as they were. As a context manager it restores the base whatever happens.

    Args:
        model: A PEFT model with a plain LoRA, LoRA-XS or DeLoRA over linear layers or stacks of
            experts.
        side: The sketched factor of a LoRA: ``left`` (the default) is B, ``right`` is A; ``both``
            starts A from a sketch and B at zero and trains the two (COLA), ``both-left`` the other
            way round. Of LoRA-XS and DeLoRA both factors begin as sketches, and it stays None.
        sketch: A kind of :func:`rankwise.functional.sketch`. None takes ``gaussian``, the paper's;
            for ``both`` and DeLoRA ``kaiming``, PEFT's start of A; for LoRA-XS ``orthonormal``.
        seed: The sketch of a layer in block t is drawn from (seed, layer, t) and nothing else.
        adapter_name: The adapter to be chained.
        gradients: For ``sketch="gradient"`` and no other: called before each block, at the weights
            in effect, for the gradients of the base layers.
        base_device: Where W₀ and the finished blocks wait between folds: ``cpu`` (in pinned memory
            if there is an accelerator), ``device`` (where the layer computes), or ``auto``, which
            moves them to the device at the first fold that finds room for them there.

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
        side: ChainSide | None = None,
        sketch: Kind | None = None,
        seed: int = 0,
        adapter_name: str = "default",
        gradients: Gradients | None = None,
        base_device: BaseDevice = "auto",
    ) -> None:
        super().__init__()
        self.model = model
        self.adapter_name = adapter_name
        check_base_device(base_device)
        self._base_device: BaseDevice = base_device
        layers = bridge.adapted_layers(model, adapter_name)
        config = check_config(model, adapter_name)
        side, kind = start_of_block(config, side, sketch)
        self._sketcher = Sketcher(side, kind, seed, adapter_name, gradients)
        check_layers(model, layers, adapter_name)
        keep_differentiable(model)
        self._past = Past(any(has_learned(each, adapter_name) for each in layers.values()))
        self._layers = cast(dict[str, OpenedLayer], layers)
        sketches = dict(self._sketcher.draw_all(layers, int(self._past.is_inherited)))
        histories = new_histories(layers, adapter_name, base_device)
        # An exception at any line leaves the model as it was: this is the last.
        all_or_none(partial(self._open, histories, sketches, mark(config, self)), self._ways_back())

    @property
    def is_open(self) -> bool:
        """Whether the chain goes on: it was not finished and its adapter not deleted."""
        entry = self._configs.get(self.adapter_name)
        return isinstance(entry, ChainMark) and entry.chain is self

    @property
    def has_frozen_sketch(self) -> bool:
        """Whether one factor of each block of a LoRA is a frozen sketch."""
        return self._sketcher.frozen is not None

    @property
    def folds(self) -> int:
        """The number of blocks that lie folded in the base weights.

        Raises:
            ChainError: The chain is over.
        """
        self._check_open()
        return len(next(iter(self._layers.values())).history.blocks)

    @property
    def fold_steps(self) -> tuple[int | None, ...]:
        """The ``step`` that each fold was given, in their order."""
        return self._past.fold_steps

    @without_autocast()
    def fold(
        self,
        optimizer: torch.optim.Optimizer | None = None,
        *,
        moments: MomentsAtFold = "reset",
        step: int | None = None,
    ) -> None:
        """Fold the block into the base and begin the next; the model's outputs stay as they are.

        W ← round(W₀ + s Σ Bᵢ Aᵢ); one factor becomes a fresh sketch, the other zero, in place. An
        ``optimizer`` that is given forgets the moments and step counts of the factors that it
        trained (``moments="reset"``), or has them ``carried`` into the next block's coordinates
        (:mod:`rankwise.functional.moments`); else (``kept``) that block goes on with them.
        ``step``, the steps of the training so far, is kept in the ledger for who decides by them.

        Raises:
            SettingsError: ``moments`` cannot be had of the adapter.
            ChainError: The chain is over, or ``optimizer`` does not train its factors or cannot
                forget them (:mod:`rankwise.methods.chain.optimizers`).
            TrainingError: The block is not finite, or what it is folded into. Nothing was folded.
        """
        check_moments(self.model, self.adapter_name, moments)
        if optimizer is not None:
            self.check_optimizer(optimizer)
        sketches = self._sketcher.draw_all(self._layers, self.folds + 1)
        settle(self._layers.values(), self._base_device)
        blocks = with_open_block(self._layers)
        carried = self._layers if moments == "carried" and optimizer is not None else {}
        turns = [layer.turns(sketches[name]) for name, layer in carried.items()]
        forgetful = None if moments == "kept" else optimizer
        renewed = Moments(forgetful, self._parameters(trained=True), dict(ChainMap(*turns)))
        change = partial(self._fold, blocks, sketches, renewed, step)
        all_or_none(change, [*self._ways_back(), renewed.put_back])

    def check_optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        """Refuse an optimizer that a fold cannot reach, such as one built before the chain.

        Raises:
            ChainError: It lacks a trained factor, holds a frozen sketch or cannot forget; or the
                chain is over.
        """
        self._check_open()
        trained, frozen = (self._parameters(trained=each) for each in (True, False))
        check_optimizer(optimizer, trained=trained, frozen=frozen)

    @without_autocast()
    def finish(self, *, final_rank: int | None = None) -> ChainReport:
        """Restore the base bit for bit and leave one plain LoRA of rank Σr and scaling 1 beside it.

        A last block in which nothing was trained is left out; smaller ranks are filled with zeros.

        Args:
            final_rank: Compress the change of each layer to this rank, where it has a larger one.

        Raises:
            ChainError: The chain is over; or the model is sharded, and the chain still open.
            SettingsError: ``final_rank`` is less than 1; the chain is still open.
            ValueError: A factor that had to be compressed is not finite; the chain is finished,
                uncompressed.
        """
        if final_rank is not None and final_rank < 1:
            raise SettingsError(f"final_rank must be at least 1, got {final_rank}")
        blocks = self.folds + 1
        if any(bridge.is_sharded(parameter) for parameter in self._parameters(trained=True)):
            raise ChainError(
                "a chain cannot be finished in a sharded model, whose parameters cannot change in "
                "shape: save() it, make the chain anew in one process, load() and finish() it there"
            )
        factors = {
            name: bridge.factors(layer, self.adapter_name) for name, layer in self._layers.items()
        }
        try:
            compressed, errors = compress_above(factors, final_rank)
        except ValueError:  # a factor is not finite: the base is restored all the same
            self._close(factors)
            raise
        return ChainReport(blocks, self._close(compressed), errors)

    def save(self, directory: str | Path) -> None:
        """Write the ledger, from which :meth:`load` brings this state back.

        ``save_pretrained`` of the model does so by itself while the chain is open.

        Raises:
            ChainError: The chain is over.
        """
        self._check_open()
        config = self._configs[self.adapter_name]
        ledger = ledger_of(self._layers, self._sketcher, config=config, past=self._past)
        write_ledger(Path(directory), ledger)

    def load(self, directory: str | Path) -> None:
        """Bring the model and the chain to the state that :meth:`save` wrote, bit for bit.

        ``directory`` may also be what ``save_pretrained`` wrote, which puts an adapter that is not
        called "default" in a folder of its name.

        Raises:
            ChainError: The chain is over.
            AdapterError: The ledger is damaged, not finite or of a chain that was set up
                otherwise; nothing was changed.
        """
        self._check_open()
        ledger = read_ledger(folder_of(Path(directory), self.adapter_name))
        recalled = recall(ledger, self._layers, self._sketcher)
        all_or_none(partial(self._write, recalled), self._ways_back())

    @property
    def _configs(self) -> dict[str, PeftConfig]:
        return cast(dict[str, PeftConfig], self.model.peft_config)

    def _check_open(self) -> None:
        if not self.is_open:
            raise ChainError(
                f"the chain of adapter {self.adapter_name!r} is over (finished, or its adapter was "
                "deleted): make a new one; it begins with what the adapter has learned"
            )

    def _parameters(self, *, trained: bool) -> list[nn.Parameter]:
        return [
            parameter
            for layer in self._layers.values()
            for part, parameter in layer.open_parts().items()
            if trained == (part not in layer.frozen_parts_of_block())
        ]

    def _ways_back(self) -> list[Step]:
        """Return what brings model and chain back to where they are now."""
        config = self._configs[self.adapter_name]
        return [
            partial(setattr, self, "_past", self._past),
            partial(self._configs.__setitem__, self.adapter_name, config),
            way_back_of_model(self.model),
            *(way_back(layer, self.adapter_name) for layer in self._layers.values()),
        ]

    def _open(
        self, histories: Mapping[str, History], sketches: Mapping[str, Sketches], entry: ChainMark
    ) -> None:
        for name, layer in self._layers.items():
            open_layer(layer, histories[name]).freeze_sketch(self._sketcher.frozen)
        inherited = with_open_block(self._layers) if self._past.is_inherited else None
        if inherited and (broken := write_histories(self._layers, inherited)()):
            raise ModelError(f"the adapter is {broken}: make the chain of one that is finite")
        self._begin_block(sketches)
        self._configs[self.adapter_name] = entry

    def _fold(
        self,
        blocks: Mapping[str, list[Factors]],
        sketches: Mapping[str, Sketches],
        moments: Moments,
        step: int | None,
    ) -> None:
        find_broken = write_histories(self._layers, blocks)
        self._begin_block(sketches)  # before anything waits for the sums
        if broken := find_broken():
            raise TrainingError(
                f"the block is {broken}; it was not folded: lower the learning rate, or go back to "
                "a checkpoint before it"
            )
        self._past = self._past.after_fold(step)
        moments.renew()

    def _begin_block(self, sketches: Mapping[str, Sketches]) -> None:
        for name, layer in self._layers.items():
            layer.begin_block(sketches[name])

    def _write(self, recalled: Recalled) -> None:
        if broken := write_histories(self._layers, recalled.blocks)():
            raise AdapterError(f"the ledger is {broken}: use an earlier checkpoint")
        for name, layer in self._layers.items():
            layer.write_parts(recalled.parts[name])
        self._past = recalled.past

    def _close(self, factors: Mapping[str, Factors]) -> int:
        """Leave a plain LoRA of these factors, of the largest of their ranks; return that rank."""
        rank = max(A.shape[-2] for _, A in factors.values())
        parameters = {
            name: plain_factors(
                self._layers[name],
                pad(B, (0, rank - A.shape[-2])),
                pad(A, (0, 0, 0, rank - A.shape[-2])),
            )
            for name, (B, A) in factors.items()
        }
        entry = cast(ChainMark, self._configs[self.adapter_name])
        is_transposed = any(map(bridge.is_transposed, self._layers.values()))
        config = finished(entry, rank, is_transposed=is_transposed)
        plain = {
            name: plain_layer(layer, self.model, self.adapter_name, config)
            for name, layer in self._layers.items()
        }
        switch = partial(self._switch_to_plain, parameters, plain, config)
        all_or_none(switch, self._ways_back())
        return rank

    def _switch_to_plain(
        self,
        parameters: Mapping[str, dict[str, nn.Parameter]],
        plain: Mapping[str, nn.Module | None],
        config: PeftConfig,
    ) -> None:
        for layer in self._layers.values():  # the base first
            layer.set_blocks([])
        for name, layer in self._layers.items():
            close_layer(layer, parameters[name], plain[name])
        become_lora_model(self.model)
        self._configs[self.adapter_name] = config

    def _end(self) -> None:
        if self.is_open:
            self.finish()

    def _end_anyway(self) -> None:
        """Finish, if that was interrupted; if it cannot be, give the base back at least."""
        try:
            self._end()
        finally:
            self._give_up()

    def _give_up(self) -> None:
        """Restore base, classes and config of what is still open, and nothing else."""
        entry = self._configs.get(self.adapter_name)
        if isinstance(entry, ChainMark) and entry.chain is not self:
            return  # this one is over, and another has begun
        go_back([partial(drop_history, layer) for layer in self._layers.values()])
        if isinstance(entry, ChainMark):
            self._configs[self.adapter_name] = unmark(entry)
