"""Which column is what: as the settings say, or guessed where there is no doubt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rankwise.core.errors import DataError, nearest_names

TEXT_NAMES = (
    "text",
    "sentence",
    "review",
    "content",
    "body",
    "comment",
    "document",
    "tweet",
    "message",
    "title",
    "question",
)
PAIR_NAMES = (
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("text1", "text2"),
    ("text_a", "text_b"),
)
LABEL_NAMES = (
    "label",
    "labels",
    "class",
    "category",
    "target",
    "sentiment",
    "intent",
    "topic",
    "stars",
    "rating",
    "score",
    "y",
)
IMAGE_NAMES = ("image", "img", "picture")
PROMPT_NAMES = ("prompt", "instruction", "question", "input", "query")
CHOSEN_NAMES, REJECTED_NAMES = ("chosen", "preferred"), ("rejected", "dispreferred")
COMPLETION_NAMES = ("completion", "response", "output", "answer", "chosen")
READ_NAMES = (*PROMPT_NAMES, "source", "text", "article", "document", "dialogue")
WRITTEN_NAMES = (*COMPLETION_NAMES, "target", "summary", "highlights", "translation")
WORDS_NAMES = ("tokens", "words")
TAGS_NAMES = ("ner_tags", "pos_tags", "chunk_tags", "tags", "labels", "ner", "pos")
MESSAGES_NAMES = ("messages", "conversations", "conversation", "dialogue")

_SAMPLES = ({"messages"}, {"prompt", "completion"})
"""The columns that make rows of supervised fine-tuning."""


def check_columns(rows: Any, names: Sequence[str], *, place: str) -> None:
    """Refuse a column that is not there.

    Raises:
        DataError: The nearest names are suggested.
    """
    for name in names:
        if name not in rows.column_names:
            raise DataError(
                f"{place} has no column {name!r}; {nearest_names(name, rows.column_names)}"
            )


def named_like(rows: Any, names: Sequence[str]) -> str | None:
    """Return the column that bears one of ``names``, the first of them first; None: there is none.

    Case does not matter.
    """
    by_lower = {column.lower(): column for column in rows.column_names}
    return next((by_lower[name] for name in names if name in by_lower), None)


def pair_of(rows: Any) -> tuple[str, str] | None:
    """Return two columns that are a pair of texts by their names."""
    for first, second in PAIR_NAMES:
        pair = named_like(rows, [first]), named_like(rows, [second])
        if pair[0] is not None and pair[1] is not None:
            return pair[0], pair[1]
    return None


def is_text(rows: Any, column: str) -> bool:
    """Say whether the values of a column are strings."""
    return getattr(rows.features[column], "dtype", None) in ("string", "large_string")


def find_label(rows: Any, *, place: str, beside: Sequence[str] = ()) -> str:
    """Return the column of the labels: by its name, or the one that is left.

    Raises:
        DataError: There is none, or several could be it.
    """
    found = named_like(rows, [name for name in LABEL_NAMES if name not in beside])
    left = [column for column in rows.column_names if column not in beside]
    if found is None and beside and len(left) == 1:
        found = left[0]
    if found is None:
        raise DataError(f"{place}: which column is the label? set --task.label to {_shown(left)}")
    return found


def find_texts(rows: Any, *, label: str | None, place: str) -> tuple[str, ...]:
    """Return the column, or the pair of columns, that the model reads.

    Raises:
        DataError: There is none, or several could be it.
    """
    if (pair := pair_of(rows)) is not None and label not in pair:
        return pair
    return (find_text(rows, label=label, place=place),)


def find_text(rows: Any, *, label: str | None = None, place: str) -> str:
    """Return the column of the texts beside ``label``: by its name, or the only one of texts.

    Raises:
        DataError: There is none, or several could be it.
    """
    left = [column for column in rows.column_names if column != label]
    texts = [column for column in left if is_text(rows, column)]
    named = named_like(rows, [name for name in TEXT_NAMES if name != (label or "").lower()])
    if named is None and len(texts) != 1:
        raise DataError(f"{place}: which column is the text? set --task.text to {_shown(left)}")
    return named or texts[0]


def find_sample_columns(rows: Any, given: dict[str, str], *, place: str) -> dict[str, str]:
    """Return ``messages``, or ``prompt`` and ``completion``: those given, others by their names.

    Raises:
        DataError: There are neither.
    """
    if given.keys() in _SAMPLES:
        return given
    return _named_samples(rows, place=place) | given


def _named_samples(rows: Any, *, place: str) -> dict[str, str]:
    if (messages := named_like(rows, MESSAGES_NAMES)) is not None:
        return {"messages": messages}
    prompt, completion = named_like(rows, PROMPT_NAMES), named_like(rows, COMPLETION_NAMES)
    if prompt is None or completion is None:
        raise DataError(
            f"{place}: which columns are prompt and completion? set --task.prompt and "
            f"--task.completion, or --task.messages, to some of {', '.join(rows.column_names)}"
        )
    return {"prompt": prompt, "completion": completion}


def find_pairs(rows: Any, given: Mapping[str, str | None], *, place: str) -> dict[str, str]:
    """Return ``chosen`` and ``rejected``, and ``prompt`` where there is such a column.

    Raises:
        DataError: One of the two is neither given nor told by its name.
    """
    found = {
        "prompt": named_like(rows, PROMPT_NAMES),
        "chosen": named_like(rows, CHOSEN_NAMES),
        "rejected": named_like(rows, REJECTED_NAMES),
    }
    columns = {name: given.get(name) or column for name, column in found.items()}
    known = {name: column for name, column in columns.items() if column is not None}
    if not {"chosen", "rejected"} <= known.keys() or len(set(known.values())) < len(known):
        raise DataError(
            f"{place}: which columns are chosen and rejected? set --task.chosen and "
            f"--task.rejected to two of {', '.join(rows.column_names)}"
        )
    return known


def find_text_pair(rows: Any, given: dict[str, str], *, place: str) -> dict[str, str]:
    """Return ``prompt`` and ``completion``: what is read and what is to be written.

    Raises:
        DataError: One of them is neither given nor told by its name.
    """
    found = {"prompt": named_like(rows, READ_NAMES), "completion": named_like(rows, WRITTEN_NAMES)}
    columns = {name: given.get(name) or column for name, column in found.items()}
    known = {name: column for name, column in columns.items() if column is not None}
    if len(known) < 2 or len(set(known.values())) < 2:
        raise DataError(
            f"{place}: which columns are read and written? set --task.prompt and "
            f"--task.completion to two of {', '.join(rows.column_names)}"
        )
    return known


def find_words(rows: Any, words: str | None, tags: str | None, *, place: str) -> tuple[str, str]:
    """Return the columns of the words and of their classes; those given, others by their names.

    Raises:
        DataError: There is none of such a name.
    """
    words, tags = words or named_like(rows, WORDS_NAMES), tags or named_like(rows, TAGS_NAMES)
    if words is None or tags is None:
        missing = "words" if words is None else "tags"
        raise DataError(
            f"{place}: which column holds the {missing}? set --task.{missing} to one of "
            f"{', '.join(rows.column_names)}"
        )
    return words, tags


def _shown(columns: Sequence[str]) -> str:
    return f"one of {', '.join(columns)}" if columns else "its name: there is no other column"
