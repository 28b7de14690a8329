"""A task of GLUE on a pretrained model: what its two forms, classes and text, have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from torch import nn
from transformers import PreTrainedTokenizerBase

from rankwise.tasks.answers import Answers
from rankwise.tasks.architectures import build_on_meta, read_architecture, word_tokenizer
from rankwise.tasks.duplicates import DUPLICATES
from rankwise.tasks.encoding import encode
from rankwise.tasks.glue.definitions import SCORES, Definition, find_definition
from rankwise.tasks.glue.examples import Example
from rankwise.tasks.glue.rows import Protocol, read_glue
from rankwise.tasks.pretrained import (
    Dtype,
    hold_in_float32,
    load_model,
    load_tokenizer,
    padding_id,
)
from rankwise.tasks.splits import Batch, Rehearsal, Splits
from rankwise.tasks.tokens import LabelColumn, TokenSplit


@dataclass(frozen=True)
class GlueTask(ABC):
    """One of the tasks, determined by where its rows come from, how they are cut, and the model.

    Two that differ only in what changes nothing about the rows, the head and the dtype, are equal:
    runs of one process share the rows that one of them has read.

    Attributes:
        name: As in ``definitions``.
        model: Name or folder, see ``tasks/pretrained.py``.
        data_root: The data root with local files; None: the Hub.
        protocol: How validation and test are cut, see ``rows``.
        split_seed: Seed of the cuts.
        head_seed: Seed of what the pretrained model lacks.
        rows: How many training rows; None: all.
        max_length: Tokens a row; the rest is cut, and counted.
        dtype: Of the pretrained weights; a head that begins untrained is float32 in any case.
    """

    name: str
    model: str
    data_root: Path | None = None
    protocol: Protocol = "revisited"
    split_seed: int = 0
    head_seed: int = field(default=0, compare=False)
    rows: int | None = None
    max_length: int = 128
    dtype: Dtype = field(default="float32", compare=False)

    # Every linear layer but the head: PEFT leaves that out.
    target_modules = "all-linear"
    evaluation_batch_size = 64

    @property
    def definition(self) -> Definition:
        """What GLUE says about the task."""
        return find_definition(self.name)

    @property
    @abstractmethod
    def auto_class(self) -> Any:
        """The Auto class of Transformers that builds the model."""

    @property
    def model_options(self) -> dict[str, Any]:
        """What the model's configuration has to say about the task."""
        return {}

    @property
    def head_modules(self) -> tuple[str, ...]:
        return ()

    @property
    def version(self) -> int:
        return self.definition.version

    @property
    def metrics(self) -> tuple[str, ...]:
        return self.definition.metrics

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Return the model's own; shared by the process, not to be changed."""
        return load_tokenizer(self.model)

    def splits(self) -> Splits:
        """Return the rows as tokens.

        ``facts`` say where they come from, and how many were cut or stand in training too.
        """
        return _splits(self)

    def rehearse(self) -> Rehearsal:
        """Return the architecture without weights, and a row of made-up sentences."""
        config = read_architecture(self.model, **self.model_options)
        texts = ("A made-up sentence.", "And another one.")[: len(self.definition.texts)]
        example = Example(texts, 1)
        words = (*self.texts(example), *self.definition.words, *map(str, SCORES))
        rows, _ = encoded(self, word_tokenizer(words, config), [example])
        training_rows = min(
            self.rows or self.definition.training_rows, self.definition.training_rows
        )
        model = self._with_head(build_on_meta(self.auto_class, config, self.dtype))
        return Rehearsal.of(model, rows, training_rows)

    def base_model(self, cache: Path) -> nn.Module:
        """Return the pretrained model; what it lacks is drawn from ``head_seed``."""
        options: dict[str, Any] = {"dtype": self.dtype, **self.model_options}
        return self._with_head(
            load_model(self.auto_class, self.model, seed=self.head_seed, **options)
        )

    def _with_head(self, model: nn.Module) -> nn.Module:
        if self.dtype != "float32":
            hold_in_float32(model, self.head_modules)
        return model

    @abstractmethod
    def answers(self, model: nn.Module, output: Mapping[str, Any], batch: Batch) -> Answers:
        """Read what the model answers."""

    @abstractmethod
    def texts(self, example: Example) -> tuple[str, ...]:
        """Return the text, or pair of texts, that the model reads."""

    @abstractmethod
    def labels(
        self, examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase
    ) -> LabelColumn:
        """Return what the model is to answer."""


@lru_cache(maxsize=4)
def _splits(task: GlueTask) -> Splits:
    """Read and encode the rows; kept, because many runs of a process read the same."""
    rows = read_glue(
        task.name,
        root=task.data_root,
        protocol=task.protocol,
        split_seed=task.split_seed,
        rows=task.rows,
    )
    tokenizer = load_tokenizer(task.model)
    known = {example.texts for example in rows.train}
    splits, facts = {}, {}
    for split, source in rows.sources.items():
        examples: Sequence[Example] = getattr(rows, split)
        splits[split], truncated = encoded(task, tokenizer, examples)
        facts[split] = {"rows": len(examples), "truncated": truncated, "source": source}
        if split != "train":
            facts[split][DUPLICATES] = sum(example.texts in known for example in examples)
    return Splits(**splits, facts=facts)


def encoded(
    task: GlueTask, tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example]
) -> tuple[TokenSplit, int]:
    """Return ``examples`` as tokens, and how many of them were cut."""
    texts = [task.texts(example) for example in examples]
    sequences, truncated = encode(tokenizer, texts, max_length=task.max_length)
    padding = dict.fromkeys(sequences, 0) | {"input_ids": padding_id(tokenizer)}
    return TokenSplit(sequences, task.labels(examples, tokenizer), padding=padding), truncated
