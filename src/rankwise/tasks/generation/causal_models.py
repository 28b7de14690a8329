"""The causal models that are adapted: each has a tokenizer, weights, and a stand-in for both."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
)

from rankwise.tasks.architectures import read_architecture
from rankwise.tasks.pretrained import Dtype, from_pretrained, load_model


class CausalBase(Protocol):
    """Where a causal model comes from."""

    def tokenizer(self) -> PreTrainedTokenizerBase: ...

    def config(self) -> PreTrainedConfig:
        """Return the model's sizes; nothing is fetched."""
        ...

    def model(self, cache: Path, dtype: Dtype = "float32") -> nn.Module:
        """Return the model with its weights; what had to be made for it is kept in ``cache``."""
        ...


@dataclass(frozen=True)
class PretrainedBase:
    """A pretrained model, by its name on the Hub or its folder.

    Unlike elsewhere its tokenizer needs no padding token: see ``prompts.Prompts.padding``.
    """

    name: str

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Return the model's own.

        Raises:
            ModelError: There is none.
        """
        return _tokenizer(self.name)

    def config(self) -> PreTrainedConfig:
        """Return the shipped configuration, or that of the folder.

        Raises:
            ModelError: There is neither.
        """
        return read_architecture(self.name)

    def model(self, cache: Path, dtype: Dtype = "float32") -> nn.Module:
        """Return the model; it lacks nothing, so no seed decides anything.

        Raises:
            ModelError: There is no such model, or it is no causal one.
        """
        kind: Any = AutoModelForCausalLM
        return load_model(kind, self.name, seed=0, dtype=dtype)


@lru_cache(maxsize=4)
def _tokenizer(name: str) -> PreTrainedTokenizerBase:
    return from_pretrained(AutoTokenizer, name)
