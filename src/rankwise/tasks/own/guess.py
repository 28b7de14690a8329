"""Which task somebody's data are made for, and which column is what in it.

Two columns called chosen and rejected are preferences. Messages, or a prompt and a completion, are
for fine-tuning; a text beside a label is for classification, an image beside one likewise; words
beside tags are for the classes of words, a text alone for next tokens. Texts for a model of encoder
and decoder are told by the name of the task.
"""

from __future__ import annotations

from typing import Any

from rankwise.core.errors import DataError
from rankwise.tasks.own.columns import (
    CHOSEN_NAMES,
    COMPLETION_NAMES,
    IMAGE_NAMES,
    LABEL_NAMES,
    MESSAGES_NAMES,
    PROMPT_NAMES,
    REJECTED_NAMES,
    TAGS_NAMES,
    WORDS_NAMES,
    find_label,
    find_pairs,
    find_sample_columns,
    find_text,
    find_text_pair,
    find_texts,
    find_words,
    named_like,
)
from rankwise.tasks.own.definitions import (
    CAUSAL_LM,
    IMAGE_CLASSIFICATION,
    METRICS,
    PREFERENCE,
    SFT,
    TEXT_CLASSIFICATION,
    TEXT_TO_TEXT,
    TOKEN_CLASSIFICATION,
)
from rankwise.tasks.own.source import Source, read_source

Guess = dict[str, Any]


def guess_task(source: Source, given: Guess) -> Guess:
    """Return ``given`` with the name of the task and its columns filled in.

    Raises:
        DataError: The data cannot be read, or leave a doubt; the setting that ends it is named.
    """
    rows, place = read_source(source)["train"], source.data
    name = given.get("name") or _name_for(rows, given, place)
    return given | {"name": name} | _columns(rows, name, given, place=place)


def _name_for(rows: Any, given: Guess, place: str) -> str:
    if "image" in given or named_like(rows, IMAGE_NAMES):
        return IMAGE_CLASSIFICATION
    if {"chosen", "rejected"} & given.keys() or (
        named_like(rows, CHOSEN_NAMES) and named_like(rows, REJECTED_NAMES)
    ):
        return PREFERENCE
    if {"words", "tags"} & given.keys() or (
        named_like(rows, WORDS_NAMES) and named_like(rows, TAGS_NAMES)
    ):
        return TOKEN_CLASSIFICATION
    if "messages" in given or named_like(rows, MESSAGES_NAMES):
        return SFT
    if "label" in given:
        return TEXT_CLASSIFICATION
    if {"prompt", "completion"} & given.keys():
        return SFT
    if named_like(rows, LABEL_NAMES):
        return TEXT_CLASSIFICATION
    if named_like(rows, PROMPT_NAMES) and named_like(rows, COMPLETION_NAMES):
        return SFT
    # A text beside other columns may be there to be told its class: only a name ends that doubt.
    if len(rows.column_names) == 1:
        return CAUSAL_LM
    raise DataError(
        f"{place}: which task is it for? set --task.name to one of {', '.join(METRICS)}, or name "
        f"what is in the columns, such as --task.text and --task.label; there are "
        f"{', '.join(rows.column_names)}"
    )


def _columns(rows: Any, name: str, given: Guess, *, place: str) -> Guess:
    """Return the columns of a task; those that are given stay."""
    found: Guess = {}
    if name == TEXT_CLASSIFICATION:
        texts = given.get("text") or []
        texts = [texts] if isinstance(texts, str) else texts
        label = given.get("label") or find_label(rows, place=place, beside=texts)
        texts = texts or list(find_texts(rows, label=label, place=place))
        found = {"text": list(texts), "label": label}
    elif name == IMAGE_CLASSIFICATION:
        image = given.get("image") or named_like(rows, IMAGE_NAMES)
        found = {"image": image} if image else {}
        beside = [image] if image else []
        found["label"] = given.get("label") or find_label(rows, place=place, beside=beside)
    elif name == SFT:
        found = _sample_columns(rows, given, place=place)
    elif name == TEXT_TO_TEXT:
        named = {key: given[key] for key in ("prompt", "completion") if given.get(key)}
        found = find_text_pair(rows, named, place=place)
    elif name == TOKEN_CLASSIFICATION:
        words, tags = find_words(rows, given.get("words"), given.get("tags"), place=place)
        found = {"words": words, "tags": tags}
    elif name == PREFERENCE:
        found = find_pairs(rows, given, place=place)
    elif name == CAUSAL_LM:
        found = {"text": given.get("text") or find_text(rows, place=place)}
    return found


def _sample_columns(rows: Any, given: Guess, *, place: str) -> Guess:
    named = {key: given[key] for key in ("prompt", "completion", "messages") if given.get(key)}
    return find_sample_columns(rows, named, place=place)
