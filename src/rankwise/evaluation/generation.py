"""Completions that a causal model generates: in batches, kept as they come, resumable.

Prompts of like lengths share a batch, the longest first, so that too large a batch shows at once.
Within a batch they are padded on the left, and the keys and values of what has been read are kept.
Adapters of unquantised models are merged into the weights meanwhile, and the weights put back.
Each completion is appended to a file when it is there; the same call resumes an interrupted one.

Greedy decoding gives the same completions whatever the batch size (up to rounding in low
precision). A sampled one depends on the batch in which it was drawn: the same seed repeats it with
the same batch size only.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn
from transformers import GenerationConfig, PreTrainedTokenizerBase

from rankwise.core.errors import SettingsError
from rankwise.core.modules import device_of, in_eval_mode, random_state_kept
from rankwise.core.seeds import derive_seed
from rankwise.methods.temporary_merge import temporarily_merged

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


class Engine(Protocol):
    """What generates tokens."""

    def ready(self) -> contextlib.AbstractContextManager[object]:
        """Prepare what many batches need, and undo it on exit."""
        ...

    def generate(
        self, prompts: Sequence[TokenIds], decoding: Decoding, *, seed: int
    ) -> list[list[int]]:
        """Return the new tokens after each prompt; what follows an end token does not count."""
        ...


@dataclass(frozen=True)
class TransformersEngine:
    """A model in memory, by Transformers' ``generate`` with its cache of keys and values.

    Attributes:
        model: A causal language model; its mode and its weights are restored.
        end: The end token.
        padding: The token that fills prompts up on the left.
    """

    model: nn.Module
    end: int
    padding: int = 0

    @contextlib.contextmanager
    def ready(self) -> Iterator[None]:
        """Merge the adapters where that can be done and undone, and switch to eval mode."""
        with in_eval_mode(self.model), temporarily_merged(self.model):
            yield

    @torch.no_grad()
    def generate(
        self, prompts: Sequence[TokenIds], decoding: Decoding, *, seed: int
    ) -> list[list[int]]:
        """Return the new tokens after each prompt, padding at their end included."""
        longest, device = max(map(len, prompts)), device_of(self.model)
        blanks = [longest - len(prompt) for prompt in prompts]
        inputs = [[self.padding] * n + list(p) for n, p in zip(blanks, prompts, strict=True)]
        mask = [[0] * n + [1] * len(p) for n, p in zip(blanks, prompts, strict=True)]
        model: Any = self.model
        with random_state_kept():
            torch.manual_seed(seed)
            output = model.generate(
                input_ids=torch.tensor(inputs, device=device),
                attention_mask=torch.tensor(mask, device=device),
                generation_config=decoding.config(padding=self.padding, end=self.end),
            )
        return output[:, longest:].tolist()


@dataclass(frozen=True)
class TextGenerator:
    """An engine and the tokenizer of its model, ready to complete prompts.

    Attributes:
        engine: Generates tokens.
        tokenizer: Turns tokens into text, and knows the end token.
        batch_size: Prompts at once.
        context: How many tokens the model can see; a prompt that leaves too little room gets None.
    """

    engine: Engine
    tokenizer: PreTrainedTokenizerBase
    batch_size: int = 16
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
        missing = [row for row in range(len(prompts)) if row not in done]
        if missing:
            with self.engine.ready(), file.open("a", encoding="utf-8") as lines:
                for rows, completions in self._generate(missing, prompts, decoding):
                    for row, each in zip(rows, completions, strict=True):
                        lines.write(json.dumps({"row": row, **asdict(each)}) + "\n")
                    lines.flush()
                    done |= zip(rows, completions, strict=True)
                    progress(len(done))
        return [done[row] for row in range(len(prompts))]

    def _generate(
        self, rows: list[int], prompts: Sequence[TokenIds], decoding: Decoding
    ) -> Iterator[tuple[list[int], list[Completion]]]:
        """Yield batches of rows with their completions."""
        longest = float("inf")
        if self.context is not None:
            longest = self.context - decoding.max_new_tokens
        end: Any = self.tokenizer.eos_token_id
        for batch in _batches(rows, prompts, size=self.batch_size, longest=longest):
            if len(prompts[batch[0]]) > longest:
                yield batch, [Completion(None, is_truncated=False)] * len(batch)
                continue
            seed = derive_seed(decoding.seed, "generation", batch[0])
            tokens = self.engine.generate([prompts[row] for row in batch], decoding, seed=seed)
            yield batch, [_decode(self.tokenizer, each, decoding, end) for each in tokens]


def _batches(
    rows: list[int], prompts: Sequence[TokenIds], *, size: int, longest: float
) -> Iterator[list[int]]:
    """Yield batches of ``rows``, the longest first, and those longer than ``longest`` apart."""
    rows = sorted(rows, key=lambda row: -len(prompts[row]))
    cut = sum(len(prompts[row]) > longest for row in rows)
    for part in (rows[:cut], rows[cut:]):
        for start in range(0, len(part), size):
            yield part[start : start + size]


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
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        if isinstance(error, SettingsError):
            raise
        raise SettingsError(f"{file} is no file of completions ({error!r}): remove it") from None
    return {row: text for row, text in texts.items() if row in range(rows)}


def _completion(line: dict[str, Any]) -> Completion:
    """Read a line; version 0.1 wrote ``is_ended``, the contrary, and False without a text."""
    text = line["text"]
    if "is_truncated" in line:
        is_truncated = line["is_truncated"]
    else:
        is_truncated = text is not None and not line["is_ended"]
    if not isinstance(text, str | None) or not isinstance(is_truncated, bool):
        raise TypeError(f"no completion: {line!r:.100}")
    return Completion(text, is_truncated)
