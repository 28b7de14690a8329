"""A causal model on the user's own texts: what plain text and conversations have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, NamedTuple

from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedTokenizerBase

from rankwise.tasks.answers import Answers
from rankwise.tasks.generation.task import response_likelihood
from rankwise.tasks.own.definitions import TEXT_METRICS, TOKEN_METRICS
from rankwise.tasks.own.packing import PackedRows, pack
from rankwise.tasks.own.task import OwnTask, own_tokenizer
from rankwise.tasks.pretrained import padding_id
from rankwise.tasks.retention import Reading, remember_loss
from rankwise.tasks.splits import Batch, Rows, Splits
from rankwise.tasks.tokens import TokenSplit


class EncodedRows(NamedTuple):
    """Rows as tokens with the labels of each, -100 where a token does not count, and the facts."""

    inputs: list[list[int]]
    labels: list[list[int]]
    facts: dict[str, Any]

    def padded_with(self, padding: int) -> TokenSplit:
        """Return the rows as a split whose batches are filled up with ``padding``."""
        return TokenSplit({"input_ids": self.inputs}, self.labels, padding={"input_ids": padding})

    def packed_with(self, padding: int) -> PackedRows:
        """Return the rows packed into sequences of the greatest length."""
        length = self.facts["max_length"]
        return pack(self.inputs, self.labels, length=length, padding=padding)


@dataclass(frozen=True)
class LanguageTask(OwnTask):
    """Next tokens of a text; the headline is exp(-loss), the likelihood of a token.

    Attributes:
        max_length: Tokens a row; None: what the model reads, up to 1,024.
    """

    max_length: int | None = None

    auto_class: ClassVar[Any] = AutoModelForCausalLM
    # Whether a row has an end that the model can be asked to write.
    has_completions: ClassVar[bool] = False
    evaluation_batch_size = 8
    writing_batch_size = 16
    is_retention_cheap = False

    @property
    def writes(self) -> bool:
        """Whether the metrics that are asked for are those of texts, which the model writes."""
        return self.has_completions and any(name in TEXT_METRICS for name in self.asked_metrics)

    @property
    def packs(self) -> bool:
        """Whether training rows are packed."""
        return False

    @property
    def answers_with(self) -> str:
        return "texts" if self.writes else "tokens"

    @property
    def default_metrics(self) -> tuple[str, ...]:
        return TOKEN_METRICS

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Return the model's own; shared by the process, not to be changed."""
        return own_tokenizer(self.model)

    @abstractmethod
    def texts(self) -> tuple[dict[str, Sequence[Any]], dict[str, Any]]:
        """Return the rows of the splits as they are read, and what a record should say of them."""

    @abstractmethod
    def encoded(self, rows: Sequence[Any], *, place: str) -> EncodedRows:
        """Return rows as tokens."""

    def splits(self) -> Splits:
        """Return the rows as tokens.

        Raises:
            DataError: The data are not as the settings say, or cannot be divided.
            SettingsError: ``max_length`` is more than the model reads.
        """
        return _splits(self)

    def remember(self, base: nn.Module) -> Reading:
        """Take down the loss on general text."""
        return remember_loss(base, self.tokenizer())

    def answers(self, model: nn.Module, output: Mapping[str, Any], batch: Batch) -> Answers:
        """Read per row the log-likelihood of what counts in it, beside its number of tokens."""
        sums, counts = response_likelihood(output["logits"], batch["labels"])
        return Answers(sums.tolist(), counts.tolist())


@lru_cache(maxsize=4)
def _splits(task: LanguageTask) -> Splits:
    """Read and encode the rows; kept, because many runs of a process read the same."""
    task.check_metrics()
    texts, facts = task.texts()
    padding = padding_id(task.tokenizer())
    splits: dict[str, Rows] = {}
    for split, rows in texts.items():
        encoded = task.encoded(rows, place=f"{task.source.data}, {split}")
        facts[split] |= encoded.facts | {"source": task.source.data}
        if task.packs and split == "train":
            # Those that are scored stay rows, each of which is answered by itself.
            splits[split] = encoded.packed_with(padding)
            facts[split] |= {"packs": len(splits[split])}
        else:
            splits[split] = encoded.padded_with(padding)
    return Splits(**splits, facts=facts)
