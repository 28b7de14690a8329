"""Classes, or numbers, of one text or of a pair of texts in the user's own columns."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from peft.utils.constants import SEQ_CLS_HEAD_NAMES
from torch import nn
from transformers import (
    AutoModelForSequenceClassification,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
)

from rankwise.tasks.answers import Answers, largest_logit, single_output
from rankwise.tasks.encoding import encode
from rankwise.tasks.own.columns import check_columns, find_label, find_texts
from rankwise.tasks.own.definitions import CLASS_METRICS, REGRESSION_METRICS, TEXT_CLASSIFICATION
from rankwise.tasks.own.division import Divided, divide
from rankwise.tasks.own.labels import Labels, Target, read_labels
from rankwise.tasks.own.source import read_source
from rankwise.tasks.own.task import OwnTask, filled_texts, length_of, own_tokenizer
from rankwise.tasks.pretrained import class_options, padding_id
from rankwise.tasks.retention import Reading, remember_features
from rankwise.tasks.splits import Batch, Splits
from rankwise.tasks.tokens import TokenSplit

LONGEST = 512


class LabelledText(NamedTuple):
    """One row: a text or a pair, and a class or a number."""

    texts: tuple[str, ...]
    label: float


class LabelledTexts(NamedTuple):
    """All rows, the names of the classes (None: a regression), and what was read from where."""

    divided: Divided[LabelledText]
    classes: tuple[str, ...] | None
    facts: dict[str, Any]


@dataclass(frozen=True)
class TextClassification(OwnTask):
    """Sequence classification, or a regression with one output.

    Attributes:
        text: The columns that the model reads, one or two; none: guessed.
        label: The column of the labels; None: guessed.
        target: Whether labels are classes or numbers; None: their values decide.
        max_length: Tokens a row, the rest is cut, and counted; None: what the model reads.
    """

    text: tuple[str, ...] = ()
    label: str | None = None
    target: Target | None = None
    max_length: int | None = None

    auto_class: ClassVar[Any] = AutoModelForSequenceClassification
    is_retention_cheap: ClassVar[bool] = False

    @property
    def name(self) -> str:
        return TEXT_CLASSIFICATION

    @property
    def rows(self) -> LabelledTexts:
        """The rows as texts."""
        return _read(self.source, self.cut, text=self.text, label=self.label, target=self.target)

    @property
    def is_regression(self) -> bool:
        return self.rows.classes is None

    @property
    def answers_with(self) -> str:
        return "regression" if self.is_regression else "classes"

    @property
    def default_metrics(self) -> tuple[str, ...]:
        return REGRESSION_METRICS if self.is_regression else CLASS_METRICS

    @property
    def head_modules(self) -> tuple[str, ...]:
        return tuple(SEQ_CLS_HEAD_NAMES)

    @property
    def model_options(self) -> dict[str, Any]:
        """What the model's configuration has to say about the head."""
        classes = self.rows.classes
        if classes is None:
            return {"num_labels": 1, "problem_type": "regression"}
        return class_options(classes) | {"problem_type": "single_label_classification"}

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Return the model's own; shared by the process, not to be changed."""
        return own_tokenizer(self.model)

    def splits(self) -> Splits:
        """Return the rows as tokens.

        Raises:
            DataError: The data are not as the settings say, or cannot be divided.
            SettingsError: ``max_length`` is more than the model reads.
        """
        return _splits(self)

    def config(self) -> PreTrainedConfig:
        config = super().config()
        config.pad_token_id = padding_id(self.tokenizer())
        return config

    def base_model(self, cache: Path) -> nn.Module:
        """Return the pretrained model; what it lacks is drawn from ``head_seed``."""
        model: Any = super().base_model(cache)
        # Models that read from left to right classify by the last token that is no padding.
        model.config.pad_token_id = padding_id(self.tokenizer())
        return model

    def remember(self, base: nn.Module) -> Reading:
        """Take down the features of general text."""
        return remember_features(base, self.tokenizer())

    def answers(self, model: nn.Module, output: Mapping[str, Any], batch: Batch) -> Answers:
        """Read the class of the largest logit, or the one output."""
        return single_output(output, batch) if self.is_regression else largest_logit(output, batch)


@lru_cache(maxsize=4)
def _read(
    source: Any, cut: Any, *, text: tuple[str, ...], label: str | None, target: Target | None
) -> LabelledTexts:
    """Read and divide the rows; kept, because many runs of a process read the same."""
    given, place = read_source(source), source.data
    train = given["train"]
    label = label or find_label(train, place=place, beside=text)
    texts = text or find_texts(train, label=label, place=place)
    for split, rows in given.items():
        check_columns(rows, (*texts, label), place=f"{place}, {split}")
    labels = read_labels(
        {split: rows[label][:] for split, rows in given.items()},
        target=target,
        names=getattr(train.features[label], "names", None),
        place=f"{place}, column {label!r}",
    )
    rows = {
        split: [
            LabelledText(tuple(pair), number)
            for *pair, number in zip(
                *(
                    filled_texts(rows[column][:], place=f"{place}, {split}, column {column!r}")
                    for column in texts
                ),
                labels.values[split],
                strict=True,
            )
        ]
        for split, rows in given.items()
    }
    divided = divide(
        rows,
        cut,
        key=_key,
        stratum=None if labels.classes is None else _class_name(labels),
        place=place,
    )
    contradicting = _contradicting(rows["train"])
    facts = {"text": list(texts), "label": label, "target": labels.target}
    facts |= {} if labels.classes is None else {"classes": list(labels.classes)}
    facts |= {"contradicting": contradicting} if contradicting else {}
    return LabelledTexts(divided, labels.classes, facts)


def _key(row: LabelledText) -> Hashable:
    return tuple(" ".join(text.split()) for text in row.texts)


def _class_name(labels: Labels) -> Any:
    classes = labels.classes or ()
    return lambda row: classes[int(row.label)]


def _contradicting(rows: list[LabelledText]) -> int:
    """Count the different texts that bear several labels."""
    seen: dict[Hashable, set[float]] = {}
    for row in rows:
        seen.setdefault(_key(row), set()).add(row.label)
    return sum(len(labels) > 1 for labels in seen.values())


@lru_cache(maxsize=4)
def _splits(task: TextClassification) -> Splits:
    task.check_metrics()
    rows, tokenizer = task.rows, task.tokenizer()
    length = length_of(tokenizer, task.max_length, otherwise=LONGEST)
    splits: dict[str, Any] = {}
    facts: dict[str, Any] = {"columns": rows.facts}
    for split, examples in rows.divided.rows.items():
        sequences, truncated = encode(
            tokenizer, [example.texts for example in examples], max_length=length
        )
        padding = dict.fromkeys(sequences, 0) | {"input_ids": padding_id(tokenizer)}
        kind = torch.float32 if rows.classes is None else torch.int64
        labels = torch.tensor([example.label for example in examples], dtype=kind)
        splits[split] = TokenSplit(sequences, labels, padding=padding)
        facts[split] = rows.divided.facts[split] | {
            "truncated": truncated,
            "max_length": length,
            "source": task.source.data,
        }
    return Splits(**splits, facts=facts)
