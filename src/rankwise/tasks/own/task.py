"""What all tasks on the user's own data have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

from torch import nn
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerBase

from rankwise.core.errors import DataError, ModelError, SettingsError
from rankwise.tasks.answers import Answers
from rankwise.tasks.architectures import architecture_names, build_on_meta, read_architecture
from rankwise.tasks.own.definitions import ALLOWED_METRICS, VERSION
from rankwise.tasks.own.division import Cut
from rankwise.tasks.own.source import Source
from rankwise.tasks.pretrained import (
    Quantization,
    from_pretrained,
    hold_in_float32,
    load_model,
    quantization_options,
)
from rankwise.tasks.splits import Batch, Rehearsal, Splits
from rankwise.tasks.table import Dtype

# A tokenizer that knows no limit says so with a huge number.
_NO_LIMIT = 10**9


@dataclass(frozen=True)
class OwnTask(ABC):
    """A task on the user's data, determined by the rows, how they are cut, and the model.

    Two that differ only in what changes nothing about the rows, the head and the dtype, are equal:
    runs of one process share the rows that one of them has read.

    Attributes:
        source: Where the rows come from.
        cut: How splits that are not given are cut.
        model: Name or folder, see ``tasks/pretrained.py``.
        asked_metrics: Names of metrics, the headline first; none: those of the task.
        head_seed: Seed of what the pretrained model lacks.
        dtype: Of the pretrained weights; a head that begins untrained is float32 in any case.
        quantization: In what the pretrained weights are held; None: in ``dtype``.
        attn_implementation: Of attention, as Transformers names it; None: its choice.
        device_map: Where weights lie, as Accelerate names it; None: on one device.
        auto_class: The Auto class of Transformers that builds the model.
    """

    auto_class: ClassVar[Any]

    source: Source
    cut: Cut
    model: str
    asked_metrics: tuple[str, ...] = ()
    head_seed: int = field(default=0, compare=False)
    dtype: Dtype = field(default="float32", compare=False)
    quantization: Quantization | None = field(default=None, compare=False)
    attn_implementation: str | None = field(default=None, compare=False)
    device_map: str | None = field(default=None, compare=False)

    version = VERSION
    # Every linear layer but the head: PEFT leaves that out.
    target_modules = "all-linear"
    evaluation_batch_size = 32

    @property
    @abstractmethod
    def name(self) -> str:
        """Its name, as in ``tasks/table.py``."""

    @property
    @abstractmethod
    def default_metrics(self) -> tuple[str, ...]:
        """The metrics where none are asked for."""

    @property
    def metrics(self) -> tuple[str, ...]:
        return self.asked_metrics or self.default_metrics

    @property
    @abstractmethod
    def answers_with(self) -> str:
        """What is answered, one of ``ALLOWED_METRICS``."""

    def check_metrics(self) -> None:
        """Refuse metrics that do not fit what is answered; the data may have to be read for it.

        Raises:
            SettingsError: One is of another kind of answers.
        """
        allowed = ALLOWED_METRICS[self.answers_with]
        for name in self.asked_metrics:
            if ":" not in name and name not in allowed:
                raise SettingsError(
                    f"task.metrics: {name!r} does not fit {self.answers_with}: choose from "
                    f"{', '.join(allowed)}, or MODULE:FUNCTION"
                )

    @property
    def head_modules(self) -> tuple[str, ...]:
        return ()

    @property
    def model_options(self) -> dict[str, Any]:
        """What the model's configuration has to say about the task."""
        return {}

    @property
    def loading_options(self) -> dict[str, Any]:
        """What else is said where the weights are loaded."""
        return {}

    @abstractmethod
    def splits(self) -> Splits:
        """Return the rows; ``facts`` say where they come from and what was cut or guessed."""

    @abstractmethod
    def answers(self, model: nn.Module, output: Mapping[str, Any], batch: Batch) -> Answers:
        """Read what the model answers."""

    def base_model(self, cache: Path) -> nn.Module:
        """Return the pretrained model; what it lacks is drawn from ``head_seed``.

        Raises:
            ModelError: There is no such model, or its architecture does not fit the task.
        """
        options: dict[str, Any] = {**self.model_options, **self.loading_options}
        options |= quantization_options(
            self.quantization, dtype=self.dtype, heads=self.head_modules
        )
        for name in ("attn_implementation", "device_map"):
            if (value := getattr(self, name)) is not None:
                options[name] = value
        model = load_model(
            self.auto_class, self.model, seed=self.head_seed, dtype=self.dtype, **options
        )
        if self.dtype != "float32":
            hold_in_float32(model, self.head_modules)
        return model

    def config(self) -> PreTrainedConfig:
        """Return the model's configuration: a shipped one, a folder's, or the Hub's.

        Raises:
            ModelError: There is none.
        """
        if self.model in architecture_names():
            return read_architecture(self.model, **self.model_options)
        return from_pretrained(AutoConfig, self.model, **self.model_options)

    def rehearse(self) -> Rehearsal:
        """Return the architecture without weights, and the first training row."""
        rows = self.splits().train
        model = build_on_meta(self.auto_class, self.config(), self.dtype)
        return Rehearsal.of(model, rows, len(rows))


@lru_cache(maxsize=4)
def own_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """Return the tokenizer of a model, whose end token pads where there is no token for it.

    It is kept, because every run and batch asks for it.

    Raises:
        ModelError: There is none, or it has neither token.
    """
    tokenizer = from_pretrained(AutoTokenizer, name)
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token_id is None:
            raise ModelError(
                f"the tokenizer of {name} has no token for padding and none for the end: give it a "
                "pad_token"
            )
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def length_of(tokenizer: PreTrainedTokenizerBase, asked: int | None, *, otherwise: int) -> int:
    """Return the tokens of the longest row: as asked, or what the model reads up to ``otherwise``.

    Raises:
        SettingsError: The model cannot read so many.
    """
    limit = tokenizer.model_max_length
    limit = limit if limit < _NO_LIMIT else None
    if asked is None:
        return otherwise if limit is None else min(limit, otherwise)
    if limit is not None and asked > limit:
        raise SettingsError(
            f"task.max_length must be at most {limit}, what the model reads, got {asked}"
        )
    return asked


def filled_texts(values: Sequence[Any], *, place: str) -> list[str]:
    """Return the values of a column as texts.

    Raises:
        DataError: One is empty.
    """
    texts = ["" if value is None else str(value) for value in values]
    empty = [row for row, text in enumerate(texts, start=1) if not text.strip()]
    if empty:
        rows = ", ".join(map(str, empty[:5])) + (", …" if len(empty) > 5 else "")
        raise DataError(
            f"{place}: {len(empty)} of {len(texts)} rows are empty (row {rows}): "
            "fill them or drop the rows"
        )
    return texts
