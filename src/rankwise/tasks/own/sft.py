"""Supervised fine-tuning on the user's prompts and completions, or on conversations.

The loss counts the completions, or what the assistant says, with the end of each; or all of a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rankwise.core.errors import DataError
from rankwise.core.labels import IGNORED_LABEL
from rankwise.tasks.own.columns import find_sample_columns
from rankwise.tasks.own.definitions import SFT
from rankwise.tasks.own.language import EncodedRows, LanguageTask
from rankwise.tasks.own.sample_tokens import sample_tokens
from rankwise.tasks.own.samples import divided_samples
from rankwise.tasks.own.source import read_source
from rankwise.tasks.own.task import length_of

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
    """

    prompt: str | None = None
    completion: str | None = None
    messages: str | None = None
    loss: Loss = "completion"

    @property
    def name(self) -> str:
        return SFT

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
