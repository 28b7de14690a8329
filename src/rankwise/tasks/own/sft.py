"""Supervised fine-tuning on the user's prompts and completions, or on conversations.

The loss counts the completions, or what the assistant says, with the end of each; or all of a row.
Metrics of texts let the model write the last of them, greedily.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from rankwise.core.errors import DataError, SettingsError
from rankwise.core.labels import IGNORED_LABEL
from rankwise.tasks.answers import Answers
from rankwise.tasks.own.columns import find_sample_columns
from rankwise.tasks.own.definitions import SFT
from rankwise.tasks.own.language import EncodedRows, LanguageTask
from rankwise.tasks.own.packing import keep_rows_apart
from rankwise.tasks.own.sample_tokens import sample_tokens
from rankwise.tasks.own.samples import divided_samples
from rankwise.tasks.own.source import read_source
from rankwise.tasks.own.task import length_of
from rankwise.tasks.pretrained import padding_id
from rankwise.tasks.splits import Batch

LONGEST = 1024
Loss = Literal["completion", "all"]


@dataclass(frozen=True)
class SupervisedFineTuning(LanguageTask):
    """Completions of prompts, or an assistant's part of conversations.

    Attributes:
        prompt: The column of the prompts; None: guessed.
        completion: The column of the completions; None: guessed.
        messages: The column of conversations, lists of ``{role, content}``; None: guessed.
        loss: What counts.
        max_new_tokens: The most that is written of a row, where metrics are of texts.
        packing: Whether training rows are packed into sequences of ``max_length`` tokens.
    """

    prompt: str | None = None
    completion: str | None = None
    messages: str | None = None
    loss: Loss = "completion"
    max_new_tokens: int = 128
    packing: bool = False

    has_completions: ClassVar[bool] = True

    @property
    def name(self) -> str:
        return SFT

    @property
    def packs(self) -> bool:
        return self.packing

    def base_model(self, cache: Path) -> nn.Module:
        """Return the pretrained model.

        Raises:
            ModelError: There is no such model, or one that cannot read packed rows is to do so.
        """
        model = super().base_model(cache)
        if self.packing:
            keep_rows_apart(model, self.model)
        return model

    def check_metrics(self) -> None:
        """Refuse metrics that do not fit what is answered.

        Raises:
            SettingsError: They are of another kind, or of texts where all of a row is learned.
        """
        super().check_metrics()
        if self.writes and self.loss == "all":
            raise SettingsError(
                f"task.metrics {', '.join(self.asked_metrics)} are of completions, which task.loss "
                "'all' does not tell from prompts: leave one of the two out"
            )

    @property
    def has_conversations(self) -> bool:
        """Whether rows are conversations; where no column is named, the data are looked at."""
        if self.messages is not None or self.prompt is not None or self.completion is not None:
            return self.messages is not None
        place = self.source.data
        return "messages" in self._columns(read_source(self.source)["train"], place)

    def texts(self) -> tuple[dict[str, Sequence[Any]], dict[str, Any]]:
        given, place = read_source(self.source), self.source.data
        columns = self._columns(given["train"], place)
        return divided_samples(given, columns, self.cut, place=place)

    def _columns(self, rows: Any, place: str) -> dict[str, str]:
        named = {"prompt": self.prompt, "completion": self.completion, "messages": self.messages}
        given = {key: column for key, column in named.items() if column is not None}
        if "messages" in given and len(given) > 1:
            raise DataError(f"task.messages and task.prompt exclude one another, got {given}")
        return find_sample_columns(rows, given, place=place)

    def encoded(self, rows: Sequence[Any], *, place: str) -> EncodedRows:
        """Return the rows as tokens; one without room for what counts is left out, and counted."""
        tokenizer = self.tokenizer()
        length = length_of(tokenizer, self.max_length, otherwise=LONGEST)
        inputs, labels, truncated, left_out = [], [], 0, 0
        for whole in sample_tokens(tokenizer, rows, place=place):
            counts = [True] * len(whole.counts) if self.loss == "all" else whole.counts
            # The first token of a row is predicted by nothing.
            if not any(counts[1:length]):
                left_out += 1
                continue
            truncated += len(whole.tokens) > length
            inputs.append(whole.tokens[:length])
            labels.append(
                [t if c else IGNORED_LABEL for t, c in zip(whole.tokens, counts)][:length]
            )
        if not inputs:
            raise DataError(
                f"{place}: no row has room for its completion within {length} tokens: raise "
                "--task.max_length"
            )
        facts = {"truncated": truncated, "left_out": left_out, "max_length": length}
        return EncodedRows(inputs, labels, facts)

    def answers(self, model: nn.Module, output: Mapping[str, Any], batch: Batch) -> Answers:
        """Read the likelihood of what counts, or let the model write the last completion."""
        if not self.writes:
            return super().answers(model, output, batch)
        if self.packing and "position_ids" in batch:
            raise SettingsError(
                "training rows are packed, and for metrics of texts a model writes row by row: "
                "score validation or test, or set --task.packing false"
            )
        tokenizer: Any = self.tokenizer()
        spans = [_last_span(row) for row in batch["labels"]]
        tokens = batch["input_ids"]
        prompts = [row[:start] for row, (start, _) in zip(tokens, spans)]
        longest, padding = max(map(len, prompts)), padding_id(tokenizer)
        inputs = tokens.new_full((len(prompts), longest), padding)
        mask = torch.zeros_like(inputs)
        for number, prompt in enumerate(prompts):
            inputs[number, longest - len(prompt) :] = prompt
            mask[number, longest - len(prompt) :] = 1
        written = model.generate(  # type: ignore[operator]
            input_ids=inputs,
            attention_mask=mask,
            max_new_tokens=self.max_new_tokens,
            do_sample=False,
            num_beams=1,
            pad_token_id=padding,
        )
        wanted = [row[start:end] for row, (start, end) in zip(tokens, spans)]
        return Answers(_texts(tokenizer, list(written[:, longest:])), _texts(tokenizer, wanted))


def _last_span(labels: Tensor) -> tuple[int, int]:
    """Return where the last run of labels that count begins and ends."""
    counts = (labels != IGNORED_LABEL).tolist()
    end = len(counts) - counts[::-1].index(True)
    start = end
    while start and counts[start - 1]:
        start -= 1
    return start, end


def _texts(tokenizer: Any, rows: list[Tensor]) -> list[str]:
    return [text.strip() for text in tokenizer.batch_decode(rows, skip_special_tokens=True)]
