"""A class for each word of a row: named entities, parts of speech.

As in Transformers' example ``run_ner.py`` a word's class stands at its first token; its other
tokens, and special ones, do not count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Any, ClassVar, NamedTuple

from peft.utils.constants import SEQ_CLS_HEAD_NAMES
from torch import nn
from transformers import AutoModelForTokenClassification, PreTrainedTokenizerBase

from rankwise.core.errors import DataError, ModelError
from rankwise.core.labels import IGNORED_LABEL
from rankwise.tasks.answers import Answers
from rankwise.tasks.own.columns import check_columns, find_words
from rankwise.tasks.own.definitions import ENTITY_METRICS, TOKEN_CLASSIFICATION, WORD_METRICS
from rankwise.tasks.own.division import Divided, divide
from rankwise.tasks.own.labels import read_labels
from rankwise.tasks.own.source import read_source
from rankwise.tasks.own.task import OwnTask, length_of, own_tokenizer
from rankwise.tasks.pretrained import class_options, padding_id
from rankwise.tasks.splits import Batch, Splits
from rankwise.tasks.tokens import TokenSplit

LONGEST = 512


class TaggedWords(NamedTuple):
    """One row: its words, and the number of the class of each."""

    words: tuple[str, ...]
    classes: tuple[int, ...]


class TaggedRows(NamedTuple):
    """All rows, the names of the classes, and what was read from where."""

    divided: Divided[TaggedWords]
    classes: tuple[str, ...]
    facts: dict[str, Any]


@dataclass(frozen=True)
class TokenClassification(OwnTask):
    """A class for each word.

    Attributes:
        words: The column of the words, lists or texts with blanks between; None: guessed.
        tags: The column of their classes, likewise; None: guessed.
        max_length: Tokens a row, the rest is cut, and counted; None: what the model reads.
    """

    words: str | None = None
    tags: str | None = None
    max_length: int | None = None

    auto_class: ClassVar[Any] = AutoModelForTokenClassification

    @property
    def name(self) -> str:
        return TOKEN_CLASSIFICATION

    @property
    def rows(self) -> TaggedRows:
        """The rows as words."""
        return _read(self.source, self.cut, self.words, self.tags)

    @property
    def answers_with(self) -> str:
        return "words"

    @property
    def default_metrics(self) -> tuple[str, ...]:
        """Entities where the classes are named as such, ``B-TYPE`` and ``I-TYPE``; else words."""
        parts = [name.partition("-")[0] for name in self.rows.classes if name != "O"]
        return ENTITY_METRICS if {*parts} <= {"B", "I"} else WORD_METRICS

    @property
    def head_modules(self) -> tuple[str, ...]:
        return tuple(SEQ_CLS_HEAD_NAMES)

    @property
    def model_options(self) -> dict[str, Any]:
        """What the model's configuration has to say about the head."""
        return class_options(self.rows.classes)

    @property
    def loading_options(self) -> dict[str, Any]:
        """A head of other classes is drawn anew."""
        return {"ignore_mismatched_sizes": True}

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Return the model's own; shared by the process, not to be changed."""
        return own_tokenizer(self.model)

    def splits(self) -> Splits:
        """Return the rows as tokens.

        Raises:
            DataError: The data are not as the settings say, or cannot be divided.
            ModelError: The tokenizer does not say which token is of which word.
            SettingsError: ``max_length`` is more than the model reads.
        """
        return _splits(self)

    def answers(self, model: nn.Module, output: Mapping[str, Any], batch: Batch) -> Answers:
        """Read the class of the largest logit for each word that counts."""
        classes, labels = self.rows.classes, batch["labels"]
        said, wanted = [], []
        for row, label in zip(output["logits"].argmax(dim=-1), labels):
            counts = label != IGNORED_LABEL
            said.append(tuple(classes[number] for number in row[counts].tolist()))
            wanted.append(tuple(classes[number] for number in label[counts].tolist()))
        return Answers(said, wanted)


@lru_cache(maxsize=4)
def _read(source: Any, cut: Any, words: str | None, tags: str | None) -> TaggedRows:
    """Read and divide the rows; kept, because many runs of a process read the same."""
    given, place = read_source(source), source.data
    words, tags = find_words(given["train"], words, tags, place=place)
    for split, rows in given.items():
        check_columns(rows, (words, tags), place=f"{place}, {split}")
    texts = {split: [_listed(each) for each in rows[words][:]] for split, rows in given.items()}
    named = {split: [_listed(each) for each in rows[tags][:]] for split, rows in given.items()}
    for split in given:
        _check_lengths(texts[split], named[split], place=f"{place}, {split}")
    inner = getattr(given["train"].features[tags], "feature", None)
    labels = read_labels(
        {split: list(chain.from_iterable(rows)) for split, rows in named.items()},
        target="classes",
        names=getattr(inner, "names", None),
        place=f"{place}, column {tags!r}",
    )
    divided = divide(
        {split: _tagged(texts[split], labels.values[split]) for split in given},
        cut,
        key=lambda row: row.words,
        place=place,
    )
    classes = labels.classes or ()
    facts = {"words": words, "tags": tags, "classes": list(classes)}
    return TaggedRows(divided, classes, facts)


def _listed(value: Any) -> list[Any]:
    if isinstance(value, str):
        return value.split()
    return list(value) if value is not None else []


def _check_lengths(words: list[list[Any]], tags: list[list[Any]], *, place: str) -> None:
    for row, (some, classes) in enumerate(zip(words, tags, strict=True), start=1):
        if not some or len(some) != len(classes):
            raise DataError(
                f"{place}, row {row} has {len(some)} words and {len(classes)} tags: each word "
                "needs one"
            )


def _tagged(words: list[list[Any]], labels: Sequence[float]) -> list[TaggedWords]:
    numbers = map(int, labels)
    return [TaggedWords(tuple(map(str, row)), tuple(next(numbers) for _ in row)) for row in words]


@lru_cache(maxsize=4)
def _splits(task: TokenClassification) -> Splits:
    task.check_metrics()
    rows, tokenizer = task.rows, task.tokenizer()
    if not tokenizer.is_fast:
        raise ModelError(
            f"the tokenizer of {task.model} does not say which token is of which word: take a "
            "--task.model with a fast one"
        )
    length = length_of(tokenizer, task.max_length, otherwise=LONGEST)
    splits: dict[str, Any] = {}
    facts: dict[str, Any] = {"columns": rows.facts}
    for split, examples in rows.divided.rows.items():
        found = [_encoded(tokenizer, example, length) for example in examples]
        splits[split] = TokenSplit(
            {"input_ids": [each.tokens for each in found]},
            [each.labels for each in found],
            padding={"input_ids": padding_id(tokenizer)},
        )
        facts[split] = rows.divided.facts[split] | {
            "truncated": sum(each.is_cut for each in found),
            "max_length": length,
            "source": task.source.data,
        }
    return Splits(**splits, facts=facts)


class _Encoded(NamedTuple):
    tokens: list[int]
    labels: list[int]
    is_cut: bool


def _encoded(tokenizer: Any, row: TaggedWords, length: int) -> _Encoded:
    encoding = tokenizer(
        list(row.words), is_split_into_words=True, truncation=True, max_length=length
    )
    labels: list[int] = []
    seen: set[int] = set()
    for word in encoding.word_ids():
        if word is None or word in seen:
            labels.append(IGNORED_LABEL)
            continue
        seen.add(word)
        labels.append(row.classes[word])
    return _Encoded(encoding["input_ids"], labels, len(seen) < len(row.words))
