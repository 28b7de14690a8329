"""How an instruction is put to a model, as text and as tokens.

``alpaca`` is the prompt of Stanford Alpaca, in which LoRA-SB, too, trains and evaluates (code
CERT-Lab/lora-sb, commit 4feb81c); more turns repeat its two headings, as FastChat's template of
that name does.
``chat`` is the tokenizer's own chat template.

Where we differ: a blank parts the prompt from the response. Training and generation then cut the
text into tokens at the same place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from transformers import PreTrainedTokenizerBase

from rankwise.core.errors import ModelError

TemplateName = Literal["alpaca", "chat"]

_OPENING = (
    "Below is an instruction that describes a task{given}. Write a response that appropriately "
    "completes the request.\n\n"
)
_GIVEN = ", paired with an input that provides further context"


@dataclass(frozen=True)
class Prompts:
    """Writes prompts for one tokenizer.

    Raises:
        ModelError: The tokenizer has no end token, or no chat template where that is asked for.
    """

    tokenizer: PreTrainedTokenizerBase
    template: TemplateName = "alpaca"

    def __post_init__(self) -> None:
        name = self.tokenizer.name_or_path or "that was given"
        if self.tokenizer.eos_token_id is None:
            raise ModelError(f"the tokenizer {name} has no end token: give it an eos_token")
        if self.template == "chat" and not self.tokenizer.chat_template:
            raise ModelError(
                f"the tokenizer {name} has no chat template: choose --task.template alpaca"
            )

    @property
    def end(self) -> int:
        """The number of the end token."""
        return cast(int, self.tokenizer.eos_token_id)

    @property
    def padding(self) -> int:
        """What fills rows up; the end token where there is no other: masks go by lengths."""
        pad = self.tokenizer.pad_token_id
        return self.end if pad is None else cast(int, pad)

    def text(self, turns: Sequence[str], *, context: str = "") -> str:
        """Return the prompt for an odd number of ``turns``, which begin and end with the user's."""
        if self.template == "chat":
            first = f"{turns[0]}\n\n{context}" if context else turns[0]
            roles = ("user", "assistant")
            messages = [
                {"role": roles[number % 2], "content": text}
                for number, text in enumerate((first, *turns[1:]))
            ]
            template: Any = self.tokenizer.apply_chat_template
            return template(messages, tokenize=False, add_generation_prompt=True)
        given = f"### Input:\n{context}\n\n" if context else ""
        text = _OPENING.format(given=_GIVEN if context else "")
        for number in range(0, len(turns), 2):
            answered = number + 1 < len(turns)
            text += f"### Instruction:\n{turns[number]}\n\n{given if number == 0 else ''}"
            text += "### Response:" + (f" {turns[number + 1]}\n\n" if answered else "")
        return text

    def response(self, response: str) -> str:
        """Return how a response goes on after its prompt."""
        return response if self.template == "chat" else f" {response.strip()}"

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the tokens of prompts, or of prompts with the beginnings of responses."""
        # A long text is no cause for a warning here: it is cut or refused where it is used.
        call: Any = self.tokenizer
        rows = call(
            list(texts), add_special_tokens=False, return_attention_mask=False, verbose=False
        )
        return [self._start + row for row in rows["input_ids"]]

    @property
    def _start(self) -> list[int]:
        """What the tokenizer puts before every text; a chat template has it inside."""
        if self.template == "chat":
            return []
        call: Any = self.tokenizer
        first = call("")["input_ids"][:1]
        return first if first == [self.tokenizer.bos_token_id] else []
