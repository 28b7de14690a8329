"""Texts that a model reads, and what it is to write of each: T5 and its kind.

Models learn from, and are scored by, the likelihood of what should be written; metrics on texts let
them write it, greedily.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn
from torch.nn.functional import pad
from transformers import AutoModelForSeq2SeqLM

from rankwise.core.labels import IGNORED_LABEL
from rankwise.tasks.answers import Answers
from rankwise.tasks.encoding import encode
from rankwise.tasks.generation.task import response_likelihood
from rankwise.tasks.own.columns import find_text_pair
from rankwise.tasks.own.definitions import TEXT_TO_TEXT
from rankwise.tasks.own.language import EncodedRows, LanguageTask
from rankwise.tasks.own.samples import divided_samples
from rankwise.tasks.own.source import read_source
from rankwise.tasks.own.task import length_of
from rankwise.tasks.splits import Batch

LONGEST = 512


@dataclass(frozen=True)
class TextToText(LanguageTask):
    """A text for a text, by an encoder and a decoder.

    Attributes:
        prompt: The column of the texts that are read; None: guessed.
        completion: The column of what is to be written; None: guessed.
        max_target_length: Tokens of what is written; the rest is cut, and counted.
    """

    prompt: str | None = None
    completion: str | None = None
    max_target_length: int = 128

    auto_class: ClassVar[Any] = AutoModelForSeq2SeqLM
    has_completions: ClassVar[bool] = True

    @property
    def name(self) -> str:
        return TEXT_TO_TEXT

    def texts(self) -> tuple[dict[str, Sequence[Any]], dict[str, Any]]:
        given, place = read_source(self.source), self.source.data
        named = {"prompt": self.prompt, "completion": self.completion}
        chosen = {name: column for name, column in named.items() if column is not None}
        columns = find_text_pair(given["train"], chosen, place=place)
        return divided_samples(given, columns, self.cut, place=place)

    def encoded(self, rows: Sequence[Any], *, place: str) -> EncodedRows:
        """Return the rows as tokens, both texts with the tokenizer's own special tokens."""
        tokenizer = self.tokenizer()
        length = length_of(tokenizer, self.max_length, otherwise=LONGEST)
        inputs = encode(tokenizer, [(row.prompt,) for row in rows], max_length=length)
        targets = encode(
            tokenizer, [(row.completion,) for row in rows], max_length=self.max_target_length
        )
        facts = {
            "truncated": inputs.truncated,
            "truncated_targets": targets.truncated,
            "max_length": length,
        }
        return EncodedRows(inputs.sequences["input_ids"], targets.sequences["input_ids"], facts)

    def answers(self, model: nn.Module, output: Mapping[str, Any], batch: Batch) -> Answers:
        """Read the likelihood of what should be written, or let the model write."""
        labels = batch["labels"]
        if not self.writes:
            # A decoder's output stands where its label does, not one before.
            logits, labels = (
                pad(output["logits"], (0, 0, 0, 1)),
                pad(labels, (1, 0), value=IGNORED_LABEL),
            )
            sums, counts = response_likelihood(logits, labels)
            return Answers(sums.tolist(), counts.tolist())
        tokenizer: Any = self.tokenizer()
        written = model.generate(  # type: ignore[operator]
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            max_new_tokens=self.max_target_length,
            do_sample=False,
            num_beams=1,
        )
        wanted = labels.masked_fill(labels == IGNORED_LABEL, tokenizer.pad_token_id)
        return Answers(
            tokenizer.batch_decode(written, skip_special_tokens=True),
            tokenizer.batch_decode(wanted, skip_special_tokens=True),
        )
