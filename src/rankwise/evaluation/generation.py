"""Completions that a causal model generates: in batches, kept as they come, resumable.

Prompts of like lengths share a batch, the longest first, so that too large a batch shows at once.
Within a batch they are padded on the left, and the keys and values of what has been read are kept.
Each completion is appended to a file when it is there; the same call resumes an interrupted one.

Greedy decoding gives the same completions whatever the batch size (up to rounding in low
precision). A sampled one depends on the batch in which it was drawn: the same seed repeats it with
the same batch size only.
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

TokenIds = Sequence[int]


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
class Completion:
    """What a model generated after one prompt.

    Attributes:
        text: Without special tokens, cut at a stop word; None where the prompt leaves the model no
            room for ``max_new_tokens``.
        is_truncated: Whether it ended at ``max_new_tokens``, and not by itself.
    """

    text: str | None
    is_truncated: bool


@dataclass(frozen=True)
class TextGenerator:
    """A causal model and its tokenizer, ready to complete prompts.

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

    def complete(
        self,
        prompts: Sequence[TokenIds],
        decoding: Decoding,
        file: Path,
        *,
        progress: Callable[[int], None] = lambda _: None,
    ) -> list[Completion]:
        """Return the completion of each prompt, in the order of ``prompts``.

        Args:
            prompts: Token numbers.
            decoding: How to choose tokens.
            file: Grows by a JSON line a completion; what it holds already is not generated again.
            progress: Called after each batch with the number of completions so far.

        Raises:
            SettingsError: The file holds completions of other prompts or of another decoding.
        """
        done = _read_completions(file, _digest(prompts, decoding), len(prompts))
        todo = [row for row in range(len(prompts)) if row not in done]
        longest = float("inf")
        if self.context is not None:
            longest = self.context - decoding.max_new_tokens
        with file.open("a", encoding="utf-8") as lines:
            for rows in _batches(todo, prompts, size=self.batch_size, longest=longest):
                completions = [Completion(None, is_truncated=False)] * len(rows)
                if len(prompts[rows[0]]) <= longest:
                    completions = self._batch([prompts[row] for row in rows], decoding, rows[0])
                for row, each in zip(rows, completions, strict=True):
                    lines.write(json.dumps({"row": row, **asdict(each)}) + "\n")
                lines.flush()
                done |= zip(rows, completions, strict=True)
                progress(len(done))
        return [done[row] for row in range(len(prompts))]

    def _batch(self, prompts: list[TokenIds], decoding: Decoding, first: int) -> list[Completion]:
        end: Any = self.tokenizer.eos_token_id
        config = decoding.config(padding=self.padding, end=end)
        seed = derive_seed(decoding.seed, "generation", first)
        tokens = _generate(self.model, prompts, config, seed=seed)
        return [_decode(self.tokenizer, each, decoding, end) for each in tokens]


def _batches(
    rows: list[int], prompts: Sequence[TokenIds], *, size: int, longest: float
) -> Iterator[list[int]]:
    """Yield batches of ``rows``, the longest first, and those longer than ``longest`` apart."""
    rows = sorted(rows, key=lambda row: -len(prompts[row]))
    cut = sum(len(prompts[row]) > longest for row in rows)
    for part in (rows[:cut], rows[cut:]):
        for start in range(0, len(part), size):
            yield part[start : start + size]


@torch.no_grad()
def _generate(
    model: Any, prompts: list[TokenIds], config: GenerationConfig, *, seed: int
) -> list[list[int]]:
    """Return the new tokens after each prompt, padding at their end included."""
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


def _decode(
    tokenizer: PreTrainedTokenizerBase, tokens: list[int], decoding: Decoding, end: int
) -> Completion:
    is_truncated = end not in tokens
    kept = tokens if is_truncated else tokens[: tokens.index(end)]
    text: Any = tokenizer.decode(kept, skip_special_tokens=True)
    for word in decoding.stop_words:
        text, found, _ = text.partition(word)
        is_truncated = is_truncated and not found
    return Completion(text, is_truncated)


def _digest(prompts: Sequence[TokenIds], decoding: Decoding) -> str:
    content = json.dumps([[list(prompt) for prompt in prompts], asdict(decoding)])
    return hashlib.sha256(content.encode()).hexdigest()


def _read_completions(file: Path, digest: str, rows: int) -> dict[int, Completion]:
    """Return the completions in ``file``, which begins with the digest of its prompts.

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
                f"{file} holds completions of other prompts or of another decoding: remove it, or "
                "choose another output"
            )
        texts = {line["row"]: _completion(line) for line in lines}
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, SettingsError):
            raise
        raise SettingsError(f"{file} is no file of completions ({error!r}): remove it") from None
    return {row: text for row, text in texts.items() if row in range(rows)}


def _completion(line: dict[str, Any]) -> Completion:
    """Read a line; version 0.1 wrote ``is_ended``, the contrary, and False without a text."""
    if "is_truncated" not in line:
        return Completion(line["text"], line["text"] is not None and not line["is_ended"])
    return Completion(line["text"], line["is_truncated"])
