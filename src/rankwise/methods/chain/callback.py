"""A chain of adapters under any Hugging Face or TRL trainer.

The callback folds where a step of the optimizer ends, so gradients that are accumulated belong to
one block. After the last step no block begins. Trainer has no event for an exception, so the
callback puts itself around the ``train`` of the Trainer that it was given to; for one that joins
later by ``add_callback``, and for other loops, it is a context manager.
"""

from __future__ import annotations

import bisect
import functools
import math
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, has_length

from rankwise.capture.batches import collect_batches
from rankwise.capture.gradients import Loss, capture_gradients
from rankwise.capture.losses import summed_loss
from rankwise.core.errors import ChainError, SettingsError
from rankwise.core.interrupts import EndsInTwoSteps
from rankwise.functional.sketch_kinds import ChainSide, Kind, MomentsAtFold
from rankwise.methods.adapters import bridge
from rankwise.methods.chain.chain import Chain, ChainReport
from rankwise.methods.chain.config import check_moments
from rankwise.methods.chain.fold_steps import (
    FoldBelow,
    check_fractions,
    check_steps,
    fold_steps,
    warning_of_no_fold,
)
from rankwise.methods.chain.optimizers import match_moments
from rankwise.methods.chain.share_watch import ShareWatch
from rankwise.methods.chain.trainer_lookup import find_trainer
from rankwise.methods.chain.waiting import BaseDevice


class ChainCallback(EndsInTwoSteps, TrainerCallback):
    """Train a PEFT model's adapter as a chain: RAC-LoRA, or COLA with ``side="both"``.

    The adapter is a plain LoRA, LoRA-XS or DeLoRA; whichever it is, one plain LoRA is left.

    Make it before the Trainer: it freezes and sketches at once, so that optimizer and DDP see the
    factors as they will be. When training ends, also by an exception, the base is restored bit for
    bit and the adapter is one LoRA. Checkpoints hold the ledger of the chain beside the current
    block; ``train(resume_from_checkpoint=...)`` continues from them exactly, and
    ``load_best_model_at_end`` returns to the best one, whatever block it is of.

    Args:
        model: The model that the Trainer is going to train.
        every: Fold after so many optimizer steps; give this, ``every_epochs``, ``fractions``,
            ``below`` or ``single_block``.
        every_epochs: Fold after so many epochs.
        fractions: Fold after these fractions of the run, such as ``[0.2, 0.5]``.
        below: Fold where the block captures too little of the gradient of ``batches``. What was
            seen stands in the Trainer's ``state.log_history`` as ``chain_captured_share``.
        single_block: Never fold: AsymmLoRA, or with ``side="both"`` a LoRA.
        side: The sketched factor of a LoRA, see :class:`rankwise.Chain`.
        sketch: Its kind, see there.
        seed: Seed of all sketches.
        adapter_name: The adapter to be chained.
        batches: For ``sketch="gradient"``: the batches whose gradient each block begins from; for
            ``below``: those whose gradient it is looked at.
        loss: Goes with ``batches``: ``loss(model, batch)``, summed over the batch.
        warmup_steps: For so many steps after a fold, step i takes only i / (warmup_steps + 1) of
            the scheduled learning rate.
        moments: What becomes of the optimizer's moments at a fold: they are ``reset``, ``kept`` as
            they are, or ``carried`` into the coordinates of the next block, see
            :meth:`rankwise.Chain.fold`. None takes ``reset``.
        reset_optimizer: False is another word for ``moments="kept"``.
        base_device: Where the pretrained weights wait between folds: ``auto``, ``cpu`` or
            ``device``, see :class:`rankwise.Chain`.
        final_rank: Compress the finished LoRA to this rank; the errors are in ``report``.

    Raises:
        SettingsError: An argument is wrong; the model was not changed.
        ModelError: The model cannot carry a chain; it was not changed.

    Example:
        >>> chain = ChainCallback(model, every=200, side="left")  # doctest: +SKIP
        >>> Trainer(model, args, train_dataset=data, callbacks=[chain]).train()  # doctest: +SKIP
        >>> model.save_pretrained("out")  # one plain LoRA  # doctest: +SKIP
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        every: int | None = None,
        every_epochs: int | None = None,
        fractions: Sequence[float] | None = None,
        below: FoldBelow | None = None,
        single_block: bool = False,
        side: ChainSide | None = None,
        sketch: Kind | None = None,
        seed: int = 0,
        adapter_name: str = "default",
        batches: Iterable[Any] | None = None,
        loss: Loss = summed_loss,
        warmup_steps: int = 0,
        moments: MomentsAtFold | None = None,
        reset_optimizer: bool = True,
        base_device: BaseDevice = "auto",
        final_rank: int | None = None,
    ) -> None:
        super().__init__()
        _check_schedule(every, every_epochs, fractions, below, single_block=single_block)
        check_steps("warmup_steps", warmup_steps, least=0)
        check_steps("final_rank", final_rank)
        moments = moments_at_fold(moments, reset_optimizer=reset_optimizer)
        check_moments(model, adapter_name, moments)
        gradients = _gradients(model, batches, loss, below)
        self.report: ChainReport | None = None
        self._block_steps, self._block_epochs = every, every_epochs
        self._fractions = list(fractions or ())
        self._is_single = single_block
        self._below, self._gradients = below, gradients
        self._watch: ShareWatch | None = None
        self._folds: list[int] = []  # after which steps: if fixed, known when training begins
        self._warmup_steps = warmup_steps
        self._moments: MomentsAtFold = moments
        self._final_rank = final_rank
        self._resumed_from: Any = None
        self._scheduled_rates: list[Any] = []
        # The last, so that what follows cannot fail and leave a chain that nobody holds.
        self.chain = Chain(
            model,
            side=side,
            sketch=sketch,
            seed=seed,
            adapter_name=adapter_name,
            gradients=gradients if below is None or sketch == "gradient" else None,
            base_device=base_device,
        )

    @property
    def fold_steps(self) -> list[int]:
        """The steps after which the chain folds, as far as they are known."""
        return list(self._folds)

    def finish(self) -> ChainReport:
        """Restore the base and leave one LoRA, unless that is done; return the report."""
        if self.report is None:
            self.report = self.chain.finish(final_rank=self._final_rank)
        return self.report

    def _end(self) -> None:
        if self.chain.is_open:
            self.finish()

    def _end_anyway(self) -> None:
        with self.chain:  # whose own end is then taken
            pass

    def on_init_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Put this callback around ``train`` of the Trainer that is being made."""
        trainer = find_trainer(self)
        if trainer is None:
            warnings.warn(
                "the ChainCallback has not found the Trainer that is being made, so an exception "
                "in training would leave the chain open and the base folded: write "
                "`with callback: trainer.train()`",
                stacklevel=2,
            )
            return
        train = trainer.train

        @functools.wraps(train)
        def train_and_finish(
            resume_from_checkpoint: str | bool | None = None, *positional: Any, **named: Any
        ) -> Any:
            self._resumed_from = resume_from_checkpoint
            with self:
                return train(resume_from_checkpoint, *positional, **named)

        trainer.train = train_and_finish

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Refuse what cannot go well; after a resume, bring the chain to where the Trainer is.

        Raises:
            ChainError: The chain is over; or the Trainer has another model, an optimizer that was
                built before this callback, epochs without a length, or ``auto_find_batch_size``.
            AdapterError: The checkpoint holds no ledger of this chain.
        """
        if kwargs["model"] is not self.chain.model:
            raise ChainError(
                "the Trainer trains another model than the ChainCallback was made for: give both "
                "the same object, without model_init and without FSDP"
            )
        if any(map(bridge.is_sharded, self._factors())):
            raise ChainError(
                "a Trainer cannot end a chain under FSDP2, in a sharded model: train with DDP; or "
                "in a loop of your own, where fold and save work, and finish in one process"
            )
        if args.auto_find_batch_size:
            raise ChainError("auto_find_batch_size=True starts anew amid a chain: set it to False")
        self.chain.check_optimizer(kwargs["optimizer"])
        if self._block_epochs is not None:
            steps = _count_steps(kwargs["train_dataloader"], args.gradient_accumulation_steps)
            self._block_steps = self._block_epochs * steps
        if self._below is not None and self._gradients is not None:
            self._watch = ShareWatch(self.chain, self._below, self._gradients)
        self._folds = fold_steps(
            state.max_steps, every=self._block_steps, fractions=self._fractions
        )
        self._warn_of_no_fold(state.max_steps)
        if state.global_step:
            given = self._resumed_from
            last = Path(str(args.output_dir)) / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"
            before = {parameter: parameter.dtype for parameter in self._factors()}
            self._load(given if isinstance(given, (str, Path)) else last)
            # The Trainer has loaded the optimizer's state for the dtypes that PEFT loads in.
            cast = [parameter for parameter, dtype in before.items() if parameter.dtype != dtype]
            match_moments(kwargs["optimizer"], cast)
            if self._watch is not None:
                self._folds = self._watch.folds

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Lower the learning rate for one of the first steps after a fold."""
        folds = bisect.bisect_right(self._folds, state.global_step)
        step = state.global_step - self._folds[folds - 1] if folds else 0
        if folds and step < self._warmup_steps:
            groups = kwargs["optimizer"].param_groups
            self._scheduled_rates = [group["lr"] for group in groups]
            for group in groups:
                group["lr"] = group["lr"] * (step + 1) / (self._warmup_steps + 1)

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Put the learning rate back before the scheduler, which may build on it, has its turn."""
        groups = kwargs["optimizer"].param_groups
        for group, rate in zip(groups, self._scheduled_rates, strict=False):
            group["lr"] = rate
        self._scheduled_rates = []

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Fold where a block ends and another follows."""
        step, optimizer = state.global_step, kwargs["optimizer"]
        if self._watch is not None:
            self._look(self._watch, state)
        after = bisect.bisect_right(self._folds, step)
        if after and self._folds[after - 1] == step:
            self.chain.fold(
                None if self._moments == "kept" else optimizer,
                moments=self._moments,
                step=None if self._watch is None else step,
            )

    def _look(self, watch: ShareWatch, state: TrainerState) -> None:
        """Enter this step among those of the folds, if the block captures too little."""
        seen = len(watch.looks)
        if state.global_step < state.max_steps and watch.is_due(state.global_step):
            self._folds.append(state.global_step)
        for look in watch.looks[seen:]:
            entry: dict[str, Any] = {"step": look.step, "chain_captured_share": look.share}
            state.log_history.append(entry)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Restore the base and leave one LoRA: the last state, or the best if that is asked for."""
        if args.load_best_model_at_end and state.best_model_checkpoint is not None:
            self._load_best(Path(state.best_model_checkpoint))
        self.finish()

    def _load_best(self, checkpoint: Path) -> None:
        name = self.chain.adapter_name
        if name != "default":
            # The Trainer looks for an adapter in the checkpoint itself and not where PEFT puts one
            # of another name, and goes on with a warning.
            self.chain.model.load_adapter(  # type: ignore[operator]
                str(checkpoint / name), name, is_trainable=True
            )
        self._load(checkpoint)

    def _warn_of_no_fold(self, steps: int) -> None:
        below = self._below
        is_watched = below is not None and below.first_look < steps
        if not (self._folds or self._is_single or is_watched):
            warning = warning_of_no_fold(
                steps,
                every=self._block_steps,
                fractions=self._fractions,
                below=below,
                has_frozen_sketch=self.chain.has_frozen_sketch,
                one_block="single_block=True",
            )
            warnings.warn(warning, stacklevel=2)

    def _load(self, checkpoint: str | Path) -> None:
        """Load the ledger of a checkpoint whose adapter the Trainer has loaded already."""
        loaded = [parameter.detach().double() for parameter in self._factors()]
        self.chain.load(checkpoint)
        now = [parameter.detach().double() for parameter in self._factors()]
        if not all(map(torch.equal, loaded, now)):
            raise ChainError(
                f"{checkpoint} is not the checkpoint that the Trainer has loaded: pass the "
                "callback as Trainer(callbacks=[...]), so that it sees from where train() resumes"
            )

    def _factors(self) -> list[nn.Parameter]:
        name = self.chain.adapter_name
        return [
            parameter
            for layer in bridge.adapted_layers(self.chain.model, name).values()
            for parameter in bridge.adapter_parameters(layer, name).values()
        ]


def moments_at_fold(moments: MomentsAtFold | None, *, reset_optimizer: bool) -> MomentsAtFold:
    """Return what two arguments say of the moments at a fold.

    Raises:
        SettingsError: They say different things.
    """
    if moments is not None and not reset_optimizer and moments != "kept":
        raise SettingsError(
            f"reset_optimizer=False keeps the moments at a fold, and moments={moments!r} does not: "
            "leave reset_optimizer out"
        )
    return moments or ("reset" if reset_optimizer else "kept")


def _gradients(
    model: nn.Module, batches: Iterable[Any] | None, loss: Loss, below: FoldBelow | None
) -> functools.partial[None] | None:
    """Return what takes the gradient of ``batches``, if there are any."""
    if batches is None:
        if loss is not summed_loss:
            raise SettingsError(
                "loss goes with batches, got it alone: it serves sketch='gradient' and below"
            )
        if below is not None:
            raise SettingsError("below looks at the gradient of batches, got it without them")
        return None
    return functools.partial(capture_gradients, model, batches=collect_batches(batches), loss=loss)


def _check_schedule(
    every: int | None,
    every_epochs: int | None,
    fractions: Sequence[float] | None,
    below: FoldBelow | None,
    *,
    single_block: bool,
) -> None:
    steps = (every, every_epochs, fractions, below)
    if sum(each is not None for each in steps) + single_block != 1:
        raise SettingsError(
            "give one of every (steps), every_epochs, fractions, below and single_block=True, got "
            f"{every!r}, {every_epochs!r}, {fractions!r}, {below!r} and {single_block!r}"
        )
    if below is not None and not isinstance(below, FoldBelow):
        raise SettingsError(f"below must be a rankwise.FoldBelow, got {below!r}")
    check_fractions(fractions or ())
    check_steps("every", every)
    check_steps("every_epochs", every_epochs)


def _count_steps(dataloader: DataLoader[Any], accumulation: int) -> int:
    """Return the optimizer steps of an epoch, as the Trainer counts them."""
    if not has_length(dataloader):
        raise ChainError("every_epochs needs a dataset with a length: give every (steps) instead")
    return math.ceil(len(dataloader) / accumulation)
