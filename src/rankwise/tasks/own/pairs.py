"""The user's preferences as they are read: what was chosen and what was rejected, for one prompt.

A prompt and two texts; or conversations, whose prompt is a column or the messages in which the two
begin. Texts without a prompt share it as their beginning (Anthropic's hh-rlhf).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from itertools import takewhile
from typing import Any, NamedTuple

from rankwise.core.errors import DataError
from rankwise.tasks.own.columns import check_columns
from rankwise.tasks.own.division import Cut, divide

Turns = tuple[tuple[str, str], ...]
Said = str | Turns
"""A text, or the messages of a conversation as pairs of role and content."""


class Pair(NamedTuple):
    """A row; all three parts are texts, or all are messages."""

    prompt: Said
    chosen: Said
    rejected: Said

    @property
    def is_conversation(self) -> bool:
        """Whether it is made of messages."""
        return not isinstance(self.chosen, str)

    @property
    def is_alike(self) -> bool:
        """Whether the two are one but for blanks, so that nothing is preferred."""
        return _words(self.chosen) == _words(self.rejected)

    @property
    def key(self) -> Hashable:
        """What the model is asked: rows that ask the same belong together."""
        if self.prompt or not (isinstance(self.chosen, str) and isinstance(self.rejected, str)):
            return _words(self.prompt)
        return _words(self.chosen[: _shared(self.chosen, self.rejected)])


def divided_pairs(
    given: Mapping[str, Any], columns: Mapping[str, str], cut: Cut, *, place: str
) -> tuple[dict[str, Sequence[Pair]], dict[str, Any]]:
    """Return the rows of the three splits without those that prefer nothing, and the facts.

    Raises:
        DataError: A column is not there, a row is empty or none, no row prefers anything, or the
            rows cannot be divided.
    """
    alike, kept = 0, {}
    for split, rows in given.items():
        where = f"{place}, {split}"
        check_columns(rows, list(columns.values()), place=where)
        pairs = read_pairs(rows, columns, place=where)
        kept[split] = [pair for pair in pairs if not pair.is_alike]
        alike += len(pairs) - len(kept[split])
        if not kept[split]:
            raise DataError(
                f"{where}: {columns['chosen']!r} and {columns['rejected']!r} are the same in every "
                "row: there is nothing to prefer"
            )
    divided = divide(kept, cut, key=lambda pair: pair.key, place=place)
    return dict(divided.rows), {"columns": {**columns, "alike": alike}, **divided.facts}


def read_pairs(rows: Any, columns: Mapping[str, str], *, place: str) -> list[Pair]:
    """Return the rows of a split.

    Raises:
        DataError: One is empty, or neither texts nor messages.
    """
    named = {name: rows[column][:] for name, column in columns.items()}
    prompts = named.get("prompt") or [None] * len(named["chosen"])
    pairs = []
    for number, values in enumerate(
        zip(prompts, named["chosen"], named["rejected"], strict=True), start=1
    ):
        where = f"{place}, row {number}"
        prompt, chosen, rejected = (
            _said(value, place=f"{where}, {columns.get(name)!r}", is_needed=name != "prompt")
            for name, value in zip(("prompt", "chosen", "rejected"), values)
        )
        pairs.append(_pair(prompt, chosen, rejected, place=where))
    return pairs


def _pair(prompt: Said, chosen: Said, rejected: Said, *, place: str) -> Pair:
    if isinstance(prompt, str) and isinstance(chosen, str) and isinstance(rejected, str):
        return Pair(prompt, chosen, rejected)
    before, said = _turns(prompt, "user"), (_turns(chosen), _turns(rejected))
    if all(turns[0][0] != "assistant" for turns in said):
        # Whole conversations, whatever column has their first message once more.
        before = said[0][: _shared(*said)]
        said = said[0][len(before) :], said[1][len(before) :]
    for name, turns in zip(("chosen", "rejected"), said):
        if not turns or turns[-1][0] != "assistant":
            raise DataError(f"{place}: what was {name} does not end with the assistant's message")
    if not before:
        raise DataError(f"{place}: the conversation has no message before what was chosen")
    return Pair(before, *said)


def _shared(one: Sequence[Any], other: Sequence[Any]) -> int:
    """Return how long the beginning is that the two share."""
    return sum(1 for _ in takewhile(lambda both: both[0] == both[1], zip(one, other)))


def _turns(said: Said, role: str = "assistant") -> Turns:
    """Return messages; a text is one of ``role``."""
    if isinstance(said, str):
        return ((role, said),) if said else ()
    return said


def _said(value: Any, *, place: str, is_needed: bool) -> Said:
    if value is None and not is_needed:
        return ""
    if isinstance(value, str) and (value.strip() or not is_needed):
        return value
    if isinstance(value, list) and value and all(map(_is_message, value)):
        return tuple((each["role"], each["content"]) for each in value)
    if isinstance(value, str) or value is None:
        raise DataError(f"{place} is empty: fill it or drop the row")
    raise DataError(
        f"{place} must be a text, or a list of messages with role and content, got "
        f"{str(value)[:80]!r}"
    )


def _is_message(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("role"), str)
        and isinstance(value.get("content"), str)
    )


def _words(said: Said) -> Hashable:
    if isinstance(said, str):
        return " ".join(said.split())
    return tuple((role, " ".join(content.split())) for role, content in said)
