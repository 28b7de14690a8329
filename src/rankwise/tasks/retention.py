"""What a base knew before it was adapted, and how much of it a trained model has lost.

A task that can tell has a method for it (:class:`RetentionTask`). The digits ask the base's own
half; here are two measures on general text: the loss of a causal model, and how far the features of
an encoder have moved. The texts (``general.txt``, one a line) were written for this and are in no
data set.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cache
from importlib import resources
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from rankwise.core.errors import ModelError
from rankwise.core.modules import device_of, in_eval_mode

LONGEST = 256
"""Tokens of a text; the rest of it is cut."""


class Retention(NamedTuple):
    """What is left of a base.

    Attributes:
        measure: What was measured, in words, with its unit.
        before: Of the base.
        after: Of the trained model.
        forgetting: What was lost; below zero, what was gained.
    """

    measure: str
    before: float
    after: float
    forgetting: float


Reading: TypeAlias = Callable[[nn.Module], Retention]
"""From a trained model, without a wrapper of PEFT, to what it has left."""


@runtime_checkable
class RetentionTask(Protocol):
    """A task that can tell what its base knew."""

    @property
    def is_retention_cheap(self) -> bool:
        """Whether telling takes no time to speak of, less than scoring the model."""
        ...

    def remember(self, base: nn.Module) -> Reading:
        """Take down what ``base`` knows; it is not needed any more for reading a trained model."""
        ...


def remember_loss(base: nn.Module, tokenizer: PreTrainedTokenizerBase) -> Reading:
    """Take down the mean loss of a causal model on general text, in nats a token."""
    before = _loss(base, tokenizer)

    def read(trained: nn.Module) -> Retention:
        after = _loss(trained, tokenizer)
        measure = "loss on general text after training minus before, in nats a token"
        return Retention(measure, before, after, after - before)

    return read


def remember_features(base: nn.Module, tokenizer: PreTrainedTokenizerBase) -> Reading:
    """Take down the features H of an encoder on general text; what is read is ‖H' - H‖ / ‖H‖.

    Raises:
        ModelError: The model is no encoder alone.
    """
    before = [each.cpu() for each in _features(base, tokenizer)]
    norm = math.sqrt(sum(float(each.square().sum()) for each in before))

    def read(trained: nn.Module) -> Retention:
        after = _features(trained, tokenizer)
        pairs = zip(after, before, strict=True)
        moved = math.sqrt(sum(float((a.cpu() - b).square().sum()) for a, b in pairs)) / norm
        measure = "relative change of the encoder's features of general text, ‖H' − H‖ / ‖H‖"
        return Retention(measure, 0.0, moved, moved)

    return read


@cache
def general_texts() -> tuple[str, ...]:
    """Return the texts."""
    file = resources.files("rankwise.tasks") / "general.txt"
    return tuple(file.read_text(encoding="utf-8").splitlines())


@torch.no_grad()
def _loss(model: nn.Module, tokenizer: PreTrainedTokenizerBase) -> float:
    total, count = 0.0, 0
    with in_eval_mode(model):
        for tokens in _tokens(model, tokenizer):
            logits = model(input_ids=tokens)["logits"][0, :-1].float()
            wanted = tokens[0, 1:].to(logits.device)
            total += float(nn.functional.cross_entropy(logits, wanted, reduction="sum"))
            count += len(wanted)
    return total / count


@torch.no_grad()
def _features(model: Any, tokenizer: PreTrainedTokenizerBase) -> Iterator[Tensor]:
    """Yield the last hidden states (tokens, width) of each text."""
    if model.config.is_encoder_decoder:
        raise ModelError(
            f"{type(model).__name__} is no encoder alone, of whose features could be said how far "
            "they move: leave compare.retention out"
        )
    with in_eval_mode(model):
        for tokens in _tokens(model, tokenizer):
            yield model.base_model(input_ids=tokens)["last_hidden_state"][0].float()


def _tokens(model: Any, tokenizer: PreTrainedTokenizerBase) -> Iterator[Tensor]:
    """Yield the tokens (1, tokens) of each text, where the model is."""
    reads = getattr(model.config, "max_position_embeddings", LONGEST)
    length = min(LONGEST, reads, tokenizer.model_max_length)
    for text in general_texts():
        tokens: Any = tokenizer(text, truncation=True, max_length=length)["input_ids"]
        yield torch.tensor([tokens], device=device_of(model))
