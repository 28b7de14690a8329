"""Folds when a chain's block follows too little of the gradient.

After some steps of a block it is looked at the gradient of the full weights on fixed batches, at
the weights in effect, and at the share of it that the block captures (``captured.py``). Where that
is below a bound, the chain folds. The steps of its folds are in the chain's ledger, so that a chain
that is taken up again looks and folds where it would have.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, distributed

from rankwise.capture.gradients import is_distributed
from rankwise.capture.stacks import Source
from rankwise.core.errors import ChainError, TrainingError
from rankwise.methods.adapters import bridge
from rankwise.methods.chain.captured import Shares, measure_by_factors
from rankwise.methods.chain.chain import Chain
from rankwise.methods.chain.fold_steps import FoldBelow

_Found = tuple[float | None, bool]
"""The share, and whether any layer has a gradient."""


class LookedAtGradients(Protocol):
    """A source of full-weight gradients, as is ``capture_gradients`` with model and batches."""

    def __call__(
        self,
        layers: Mapping[str, Source],
        *,
        consume: Callable[[str, Tensor], None],
        consume_none: Callable[[str], None],
    ) -> None:
        """Hand on the gradient of each layer, or tell that it is zero."""
        ...


class Look(NamedTuple):
    """The captured share after a step; None where the whole gradient is zero."""

    step: int
    share: float | None


class ShareWatch:
    """Says after each step whether a chain is to fold; it folds nothing itself.

    Args:
        chain: The chain. All its folds are told their ``step``.
        rule: When to look, and when to fold.
        gradients: Called at each look for the gradients of the base layers:
            ``functools.partial(capture_gradients, model, batches=batches)``.

    Attributes:
        looks: What was seen in this process.

    Example:
        >>> watch = ShareWatch(chain, FoldBelow(0.1, look_every=20), gradients)  # doctest: +SKIP
        >>> for step in range(1, steps + 1):  # doctest: +SKIP
        ...     train_one_step(model, optimizer)
        ...     if step < steps and watch.is_due(step):
        ...         chain.fold(optimizer, step=step)
    """

    def __init__(self, chain: Chain, rule: FoldBelow, gradients: LookedAtGradients) -> None:
        self.looks: list[Look] = []
        self._chain, self._rule, self._gradients = chain, rule, gradients

    @property
    def folds(self) -> list[int]:
        """The steps after which the chain has folded.

        Raises:
            ChainError: A fold was not told its step.
        """
        known = [step for step in self._chain.fold_steps if step is not None]
        if len(known) < len(self._chain.fold_steps):
            raise ChainError(
                "the chain has folded at steps that nobody has told it, so it is not known how "
                "long its block is: give each fold its step, and resume a chain under the schedule "
                "that it began with"
            )
        return known

    def is_due(self, step: int) -> bool:
        """Say whether the chain is to fold after ``step`` steps of the whole training.

        Raises:
            ChainError: A fold was not told its step.
            ModelError: The loss depends on none of the layers.
            TrainingError: The loss, the gradient or the block is not finite.
        """
        block = step - (self.folds or [0])[-1]
        if self._rule.is_full(block):
            return True
        if not self._rule.has_look(block):
            return False
        self.looks.append(Look(step, self._captured_share()))
        share = self.looks[-1].share
        return share is not None and share < self._rule.share

    def _captured_share(self) -> float | None:
        name = self._chain.adapter_name
        layers = bridge.adapted_layers(self._chain.model, name)
        # Asked now: while gradients are captured no parameter is marked as trainable.
        shares = Shares({each: measure_by_factors(layer, name) for each, layer in layers.items()})
        sources = {each: bridge.gradient_source(layer) for each, layer in layers.items()}
        self._gradients(sources, consume=shares.add, consume_none=lambda _: None)
        # All processes go by one: the last digit may differ between devices.
        share, is_known = _of_first_process(
            (shares.of_all(), bool(shares.by_layer)),
            bridge.device_of_base(next(iter(layers.values()))),
        )
        if share is None and is_known:
            raise TrainingError(
                "the block is not finite, so what it captures of the gradient is not known: lower "
                "the learning rate, or go back to a checkpoint before it"
            )
        return share


def _of_first_process(found: _Found, device: torch.device) -> _Found:
    told = [found]
    if is_distributed():
        is_sent_by_gpu = distributed.get_backend() == "nccl"
        distributed.broadcast_object_list(told, src=0, device=device if is_sent_by_gpu else None)
    return told[0]
