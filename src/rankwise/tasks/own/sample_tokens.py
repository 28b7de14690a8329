"""Prompts with completions, and conversations, as tokens that say which of them are to be learned.

Conversations are written by the tokenizer's chat template. Which tokens are the assistant's is what
the template says of itself (``{% generation %}``); of one that does not, what comes behind the
prompt that the template makes of the turns before. Some templates write a turn otherwise once
others follow: there TRL's template for training stands in, if it has one for the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from rankwise.core.errors import DataError, ModelError
from rankwise.tasks.generation.encoding import shared_start
from rankwise.tasks.generation.prompts import Prompts
from rankwise.tasks.own.samples import Sample

Message = dict[str, str]


class SampleTokens(NamedTuple):
    """The tokens of a row, and for each whether a loss on completions counts it."""

    tokens: list[int]
    counts: list[bool]


def sample_tokens(tokenizer: Any, rows: Sequence[Sample], *, place: str) -> list[SampleTokens]:
    """Return rows as tokens, with an end token behind each completion.

    Raises:
        DataError: The assistant's part cannot be told from the rest.
        ModelError: The tokenizer has no end token, or no chat template where rows are
            conversations.
    """
    if not rows or not rows[0].messages:
        return _completions(Prompts(tokenizer), rows)
    check_template(tokenizer)
    return [
        _conversation(tokenizer, row, place=f"{place}, row {number}")
        for number, row in enumerate(rows, start=1)
    ]


def check_template(tokenizer: Any) -> None:
    """Refuse a tokenizer that cannot write conversations.

    Raises:
        ModelError: It has no chat template.
    """
    if not tokenizer.chat_template:
        raise ModelError(
            f"the tokenizer {tokenizer.name_or_path} has no chat template, which conversations "
            "need: take an instruction-tuned --task.model, or columns of --task.prompt and "
            "--task.completion"
        )


def _completions(prompts: Prompts, rows: Sequence[Sample]) -> list[SampleTokens]:
    whole = [row.prompt + gap_between(row.prompt, row.completion) + row.completion for row in rows]
    found = []
    for prompt, tokens in zip(
        prompts.tokens([row.prompt for row in rows]), prompts.tokens(whole), strict=True
    ):
        tokens.append(prompts.end)
        learned_from = shared_start(prompt, tokens)
        found.append(
            SampleTokens(tokens, [number >= learned_from for number in range(len(tokens))])
        )
    return found


def gap_between(prompt: str, completion: str) -> str:
    """Return a blank, or nothing where one of the two has it."""
    return "" if prompt[-1:].isspace() or completion[:1].isspace() else " "


def _conversation(tokenizer: Any, row: Sample, *, place: str) -> SampleTokens:
    messages = [{"role": role, "content": content} for role, content in row.messages]
    if _marks_generation(tokenizer.chat_template):
        return _marked(tokenizer, messages)
    text = written(tokenizer, messages)
    spans = []
    for number, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        before = written(tokenizer, messages[:number], asks=True) if number else ""
        after = written(tokenizer, messages[: number + 1])
        if not (text.startswith(before) and text.startswith(after)):
            template = _template_for_training(tokenizer, place, number + 1)
            return _marked(tokenizer, messages, chat_template=template)
        spans.append((before, after))
    return _counted(Prompts(tokenizer, "chat"), text, spans)


def _counted(prompts: Prompts, text: str, spans: list[tuple[str, str]]) -> SampleTokens:
    """Return the tokens of ``text``; what lies between two of its beginnings counts."""
    beginnings = [beginning for span in spans for beginning in span]
    whole, *found = prompts.tokens([text, *beginnings])
    # Where a tokenizer joins two parts at a seam, the token that it makes there is learned.
    edges = [shared_start(tokens, whole) for tokens in found]
    counts = [False] * len(whole)
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        counts[start:end] = [True] * (end - start)
    return SampleTokens(whole, counts)


def _marks_generation(template: Any) -> bool:
    return isinstance(template, str) and "generation %}" in template.replace("-%}", " %}").replace(
        "endgeneration", ""
    )


def _marked(tokenizer: Any, messages: list[Message], **options: Any) -> SampleTokens:
    found = tokenizer.apply_chat_template(
        messages, tokenize=True, return_dict=True, return_assistant_tokens_mask=True, **options
    )
    return SampleTokens(list(found["input_ids"]), [bool(m) for m in found["assistant_masks"]])


def _template_for_training(tokenizer: Any, place: str, message: int) -> str:
    found: str | None = None
    try:
        from trl.chat_template_utils import get_training_chat_template

        found = get_training_chat_template(tokenizer)
        advice = "TRL knows no template for training in its place"
    except ImportError:
        advice = "pip install trl, which has templates for training"
    except ValueError:
        advice = "TRL knows no template for training in its place"
    if found is None:
        raise DataError(
            f"{place}: the chat template writes message {message} in another way when others "
            f"follow, so the assistant's part cannot be told: {advice}; or --task.loss all, or end "
            "each conversation at its first answer"
        )
    return found


def written(tokenizer: Any, messages: list[Message], *, asks: bool = False) -> str:
    """Return messages as the chat template writes them; ``asks`` for the next one behind them."""
    return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=asks)
