"""The user's prompts and completions, or conversations, as they are read."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple

from rankwise.core.errors import DataError
from rankwise.tasks.own.columns import check_columns
from rankwise.tasks.own.division import Cut, divide
from rankwise.tasks.own.task import filled_texts


class Sample(NamedTuple):
    """A row: a prompt with its completion, or the messages of a conversation."""

    prompt: str = ""
    completion: str = ""
    messages: tuple[tuple[str, str], ...] = ()

    @property
    def key(self) -> Hashable:
        """What the model is asked: rows that ask the same belong together."""
        if not self.messages:
            return " ".join(self.prompt.split())
        asked = [content for role, content in self.messages if role != "assistant"]
        return tuple(" ".join(content.split()) for content in asked)


def divided_samples(
    given: Mapping[str, Any], columns: Mapping[str, str], cut: Cut, *, place: str
) -> tuple[dict[str, Sequence[Any]], dict[str, Any]]:
    """Return the rows of the three splits, and what a record should say of them.

    Raises:
        DataError: A column is not there, a row is empty or no conversation, or the rows cannot be
            divided.
    """
    for split, rows in given.items():
        check_columns(rows, list(columns.values()), place=f"{place}, {split}")
    divided = divide(
        {
            split: read_samples(rows, columns, place=f"{place}, {split}")
            for split, rows in given.items()
        },
        cut,
        key=lambda row: row.key,
        place=place,
    )
    return dict(divided.rows), {"columns": dict(columns), **divided.facts}


def read_samples(rows: Any, columns: Mapping[str, str], *, place: str) -> list[Sample]:
    """Return the rows of a split.

    Raises:
        DataError: One is empty, or no conversation.
    """
    if "messages" in columns:
        column = columns["messages"]
        return [
            Sample(messages=_conversation(value, place=f"{place}, row {number}, {column!r}"))
            for number, value in enumerate(rows[column][:], start=1)
        ]
    prompts, completions = (
        filled_texts(rows[columns[name]][:], place=f"{place}, column {columns[name]!r}")
        for name in ("prompt", "completion")
    )
    return [Sample(*pair) for pair in zip(prompts, completions, strict=True)]


def _conversation(value: Any, *, place: str) -> tuple[tuple[str, str], ...]:
    messages = value if isinstance(value, list) else []
    if not messages or not all(
        isinstance(each, dict)
        and isinstance(each.get("role"), str)
        and isinstance(each.get("content"), str)
        for each in messages
    ):
        raise DataError(
            f"{place} must be a list of messages with role and content, got {str(value)[:80]!r}"
        )
    if not any(each["role"] == "assistant" and each["content"].strip() for each in messages):
        raise DataError(f"{place} has no message of the assistant: there is nothing to learn")
    return tuple((each["role"], each["content"]) for each in messages)
