"""Texts that a causal model writes after prompts: in batches, kept as they come, resumable.

Prompts of like lengths share a batch, the longest first, so that too large a batch shows at once.
Within a batch they are padded on the left, and the keys and values of what has been read are kept.
Each text is appended to a file when it is there; the same call goes on where a stopped one stood.

Greedy decoding gives the same texts whatever the batch size (up to rounding in low precision). A
sampled text depends on the batch in which it was drawn: the same seed repeats it with the same
batch size only.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import GenerationConfig, PreTrainedTokenizerBase

from rankwise.core.errors import SettingsError
from rankwise.core.modules import device_of
from rankwise.core.seeds import derive_seed

Prompt = Sequence[int]


@dataclass(frozen=True)
class Decoding:
    """How the next token is chosen.

    Attributes:
        max_new_tokens: The longest text.
        temperature: Of sampling; None is greedy.
        top_p: Sample among the likeliest tokens of this total probability.
        top_k: Sample among so many.
        seed: Of sampling.
        stop_words: A text ends before the first of them.
    """

    max_new_tokens: int
    temperature: float | None = None
    top_p: float = 0.75
    top_k: int = 40
    seed: int = 0
    stop_words: tuple[str, ...] = ()

    def config(self, *, padding: int, end: int) -> GenerationConfig:
        """Return what Transformers' ``generate`` takes."""
        sampled = {}
        if self.temperature is not None:
            sampled = {"temperature": self.temperature, "top_p": self.top_p, "top_k": self.top_k}
        return GenerationConfig(
            max_new_tokens=self.max_new_tokens,
            do_sample=self.temperature is not None,
            pad_token_id=padding,
            eos_token_id=end,
            use_cache=True,
            **sampled,
        )


@dataclass(frozen=True)
class Written:
    """What a model wrote after one prompt.

    Attributes:
        text: Without special tokens, cut at a stop word; None where the prompt leaves the model no
            room for ``max_new_tokens``.
        is_ended: Whether it ended by itself, and not at ``max_new_tokens``.
    """

    text: str | None
    is_ended: bool


@dataclass(frozen=True)
class Writer:
    """A model that writes.

    Attributes:
        model: A causal language model; its mode is restored.
        tokenizer: Turns tokens into text, and knows the end token.
        batch_size: Prompts at once.
        padding: The token that fills prompts up on the left.
        context: How many tokens the model can see; a prompt that leaves too little room gets None.
    """

    model: nn.Module
    tokenizer: PreTrainedTokenizerBase
    batch_size: int = 16
    padding: int = 0
    context: int | None = None

    def write(
        self,
        prompts: Sequence[Prompt],
        decoding: Decoding,
        file: Path,
        *,
        watch: Callable[[int], None] = lambda _: None,
    ) -> list[Written]:
        """Return what the model writes after each prompt, in the order of ``prompts``.

        Args:
            prompts: Token numbers.
            decoding: How to choose tokens.
            file: Grows by a JSON line a text; what it holds already is not written again.
            watch: Is told the number of texts that are there, after each batch.

        Raises:
            SettingsError: The file holds texts for other prompts or another decoding.
        """
        done = _resumed(file, _digest(prompts, decoding), len(prompts))
        todo = [row for row in range(len(prompts)) if row not in done]
        longest = float("inf")
        if self.context is not None:
            longest = self.context - decoding.max_new_tokens
        with file.open("a", encoding="utf-8") as lines:
            for rows in _batches(todo, prompts, size=self.batch_size, longest=longest):
                written = [Written(None, is_ended=False)] * len(rows)
                if len(prompts[rows[0]]) <= longest:
                    written = self._batch([prompts[row] for row in rows], decoding, rows[0])
                for row, each in zip(rows, written, strict=True):
                    lines.write(json.dumps({"row": row, **asdict(each)}) + "\n")
                lines.flush()
                done |= zip(rows, written, strict=True)
                watch(len(done))
        return [done[row] for row in range(len(prompts))]

    def _batch(self, prompts: list[Prompt], decoding: Decoding, first: int) -> list[Written]:
        end: Any = self.tokenizer.eos_token_id
        config = decoding.config(padding=self.padding, end=end)
        seed = derive_seed(decoding.seed, "generation", first)
        tokens = _generate(self.model, prompts, config, seed=seed)
        return [_read(self.tokenizer, each, decoding, end) for each in tokens]


def _batches(
    rows: list[int], prompts: Sequence[Prompt], *, size: int, longest: float
) -> Iterator[list[int]]:
    """Yield batches of ``rows``, the longest first, and those longer than ``longest`` apart."""
    rows = sorted(rows, key=lambda row: -len(prompts[row]))
    cut = sum(len(prompts[row]) > longest for row in rows)
    for part in (rows[:cut], rows[cut:]):
        for start in range(0, len(part), size):
            yield part[start : start + size]


@torch.no_grad()
def _generate(
    model: Any, prompts: list[Prompt], config: GenerationConfig, *, seed: int
) -> list[list[int]]:
    """Return the new tokens of each prompt, padding at their end included."""
    longest = max(map(len, prompts))
    padding: Any = config.pad_token_id
    device = device_of(model)
    inputs = [[padding] * (longest - len(prompt)) + list(prompt) for prompt in prompts]
    mask = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    devices = [device] if device.type == "cuda" else []
    training = model.training
    model.eval()
    try:
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            output = model.generate(
                input_ids=torch.tensor(inputs, device=device),
                attention_mask=torch.tensor(mask, device=device),
                generation_config=config,
            )
    finally:
        model.train(training)
    return output[:, longest:].tolist()


def _read(
    tokenizer: PreTrainedTokenizerBase, tokens: list[int], decoding: Decoding, end: int
) -> Written:
    is_ended = end in tokens
    kept = tokens[: tokens.index(end)] if is_ended else tokens
    text: Any = tokenizer.decode(kept, skip_special_tokens=True)
    for word in decoding.stop_words:
        text, found, _ = text.partition(word)
        is_ended = is_ended or bool(found)
    return Written(text, is_ended)


def _digest(prompts: Sequence[Prompt], decoding: Decoding) -> str:
    content = json.dumps([[list(prompt) for prompt in prompts], asdict(decoding)])
    return hashlib.sha256(content.encode()).hexdigest()


def _resumed(file: Path, digest: str, rows: int) -> dict[int, Written]:
    """Return the texts in ``file``, which begins with the digest of what it answers.

    A last line that was not written to its end is cut off.
    """
    if not file.exists() or b"\n" not in (content := file.read_bytes()):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"answers_to": digest}) + "\n", encoding="utf-8")
        return {}
    whole = content[: content.rindex(b"\n") + 1]
    if len(whole) < len(content):
        with file.open("r+b") as handle:
            handle.truncate(len(whole))
    try:
        head, *lines = map(json.loads, whole.decode("utf-8").splitlines())
        if head["answers_to"] != digest:
            raise SettingsError(
                f"{file} answers other prompts, or by another decoding: remove it, or choose "
                "another output"
            )
        texts = {line["row"]: Written(line["text"], line["is_ended"]) for line in lines}
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, SettingsError):
            raise
        raise SettingsError(f"{file} is no file of answers ({error!r}): remove it") from None
    return {row: text for row, text in texts.items() if row in range(rows)}
