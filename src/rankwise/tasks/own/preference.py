"""Preferences of the user's own: which of two completions is the better one, learned by DPO."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedTokenizerBase

from rankwise.core.accelerator import on_accelerator
from rankwise.tasks.answers import Answers
from rankwise.tasks.architectures import build_on_meta
from rankwise.tasks.own.columns import find_pairs
from rankwise.tasks.own.definitions import PAIR_METRICS, PREFERENCE
from rankwise.tasks.own.pair_tokens import PairRows, pair_tokens
from rankwise.tasks.own.pairs import divided_pairs
from rankwise.tasks.own.preference_model import compare_pairs, find_reference
from rankwise.tasks.own.source import read_source
from rankwise.tasks.own.task import OwnTask, length_of, own_tokenizer
from rankwise.tasks.pretrained import padding_id
from rankwise.tasks.splits import Batch, Rehearsal, Splits

LONGEST = 1024
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Preference(OwnTask):
    """Pairs of completions, the better one first; the headline is the share that is told apart.

    Attributes:
        prompt: The column of the prompts; None: guessed, or the beginning that the two share.
        chosen: The column of the better completions; None: guessed.
        rejected: The column of the others; None: guessed.
        beta: How strongly the model is held to where it began.
        max_length: Tokens a row; None: what the model reads, up to 1,024.
    """

    prompt: str | None = None
    chosen: str | None = None
    rejected: str | None = None
    beta: float = 0.1
    max_length: int | None = None

    auto_class: ClassVar[Any] = AutoModelForCausalLM
    evaluation_batch_size = 8

    @property
    def name(self) -> str:
        return PREFERENCE

    @property
    def answers_with(self) -> str:
        return "pairs"

    @property
    def default_metrics(self) -> tuple[str, ...]:
        return PAIR_METRICS

    @property
    def has_conversations(self) -> bool:
        """Whether rows are conversations."""
        return bool(self.splits().facts["columns"]["has_conversations"])

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Return the model's own; shared by the process, not to be changed."""
        return own_tokenizer(self.model)

    def splits(self) -> Splits:
        """Return the pairs as tokens.

        Raises:
            DataError: The data are not as the settings say, or cannot be divided.
            ModelError: Conversations need a chat template, which the tokenizer lacks.
            SettingsError: ``max_length`` is more than the model reads.
        """
        return _splits(self)

    def base_model(self, cache: Path) -> nn.Module:
        """Return the pretrained model with the loss on pairs; ``cache`` keeps its own part of it.

        Raises:
            ModelError: There is no such model, or its architecture does not fit the task.
        """
        model = super().base_model(cache)
        place = next(model.parameters()).device
        # Weights that Accelerate or a quantiser has put somewhere stay there.
        if not self._is_placed:
            on_accelerator(model)
        splits = self.splits()
        said = f"{self.version} {self.dtype} {self.quantization} {self.attn_implementation}"
        reference = find_reference(
            model,
            [getattr(splits, name) for name in SPLITS],
            cache,
            batch_size=self.evaluation_batch_size,
            said=said,
        )
        if not self._is_placed:
            model.to(place)
        compare_pairs(model, reference, beta=self.beta)
        return model

    @property
    def _is_placed(self) -> bool:
        return self.quantization is not None or self.device_map is not None

    def rehearse(self) -> Rehearsal:
        """Return the architecture without weights, and the first training pair."""
        rows = self.splits().train
        model = build_on_meta(self.auto_class, self.config(), self.dtype)
        compare_pairs(model, torch.zeros(len(rows), device="meta"), beta=self.beta)
        return Rehearsal.of(model, rows, len(rows))

    def answers(self, model: nn.Module, output: Mapping[str, Any], batch: Batch) -> Answers:
        """Read the margin of each pair; what is right is that it is above 0."""
        return Answers(output["logits"].float().tolist(), batch["labels"].tolist())


@lru_cache(maxsize=4)
def _splits(task: Preference) -> Splits:
    """Read and encode the rows; kept, because many runs of a process read the same."""
    task.check_metrics()
    given, place = read_source(task.source), task.source.data
    named = {"prompt": task.prompt, "chosen": task.chosen, "rejected": task.rejected}
    columns = find_pairs(given["train"], named, place=place)
    texts, facts = divided_pairs(given, columns, task.cut, place=place)
    facts["columns"]["has_conversations"] = texts["train"][0].is_conversation
    tokenizer = task.tokenizer()
    length = length_of(tokenizer, task.max_length, otherwise=LONGEST)
    splits: dict[str, PairRows] = {}
    for split in SPLITS:
        pairs, counts = pair_tokens(
            tokenizer, texts[split], max_length=length, place=f"{place}, {split}"
        )
        first = sum(map(len, splits.values()))
        splits[split] = PairRows(pairs, first=first, padding=padding_id(tokenizer))
        facts[split] |= {"rows": len(pairs), **counts, "max_length": length}
    return Splits(**splits, facts=facts)
