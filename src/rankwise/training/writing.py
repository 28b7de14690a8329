"""A trained model that writes: completions of prompts, and the next turn of a conversation.

A run is asked in the form that it was trained on: an instruction's template, the tokenizer's chat
template where its rows were conversations, else the prompt as it stands. An adapter from elsewhere
is asked by its tokenizer's chat template, or as it stands where there is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedTokenizerBase

from rankwise.core.accelerator import on_accelerator
from rankwise.core.errors import SettingsError
from rankwise.core.modules import device_of, in_eval_mode, random_state_kept
from rankwise.evaluation.generation import Decoding, TransformersEngine
from rankwise.methods.adapters.directory import check_adapter_directory, read_config
from rankwise.methods.adapters.switching import with_adapter
from rankwise.methods.temporary_merge import temporarily_merged
from rankwise.tasks.generation.prompts import Prompts
from rankwise.tasks.generation.task import GenerationTask
from rankwise.tasks.own.causal_lm import CausalLm
from rankwise.tasks.own.preference import Preference
from rankwise.tasks.own.sft import SupervisedFineTuning
from rankwise.tasks.own.task import own_tokenizer
from rankwise.tasks.own.text_to_text import TextToText
from rankwise.tasks.pretrained import load_model
from rankwise.tasks.table import Task
from rankwise.training.evaluating import find_run

Form = Literal["plain", "alpaca", "chat", "text-to-text"]


@dataclass(frozen=True)
class Writer:
    """A model with its adapter, and the form in which it is asked.

    Attributes:
        model: In memory.
        tokenizer: The model's own.
        form: How prompts are put.
    """

    model: nn.Module
    tokenizer: PreTrainedTokenizerBase
    form: Form

    @property
    def has_turns(self) -> bool:
        """Whether a prompt may have turns before it."""
        return self.form in ("alpaca", "chat")

    def write(
        self, asked: Sequence[Sequence[str]], decoding: Decoding, *, batch_size: int = 8
    ) -> list[str]:
        """Return what the model writes for each of ``asked``.

        Args:
            asked: An odd number of turns each, which begin and end with the user's; one alone
                where the form has none.
            decoding: How the next token is chosen.
            batch_size: Prompts at once.

        Raises:
            SettingsError: A prompt leaves the model no room.
        """
        texts: list[str] = []
        with in_eval_mode(self.model), temporarily_merged(self.model):
            for start in range(0, len(asked), batch_size):
                rows = asked[start : start + batch_size]
                if self.form == "text-to-text":
                    texts += self._rewritten([turns[-1] for turns in rows], decoding)
                else:
                    texts += self._continued(rows, decoding)
        return texts

    def _continued(self, rows: Sequence[Sequence[str]], decoding: Decoding) -> list[str]:
        template = "chat" if self.form == "chat" else "alpaca"
        prompts = Prompts(self.tokenizer, template)
        given = [prompts.text(turns) if self.has_turns else turns[-1] for turns in rows]
        tokens = prompts.tokens(given)
        self._check_room(tokens, decoding.max_new_tokens)
        engine = TransformersEngine(self.model, prompts.end, prompts.padding)
        written = engine.generate(tokens, decoding, seed=decoding.seed)
        kept = [row[: row.index(prompts.end)] if prompts.end in row else row for row in written]
        return [self._decoded(row) for row in kept]

    @torch.no_grad()
    def _rewritten(self, texts: list[str], decoding: Decoding) -> list[str]:
        model: Any = self.model
        tokenizer: Any = self.tokenizer
        inputs = tokenizer(texts, padding=True, return_tensors="pt").to(device_of(model))
        config = decoding.config(padding=tokenizer.pad_token_id, end=tokenizer.eos_token_id)
        with random_state_kept():
            torch.manual_seed(decoding.seed)
            written = model.generate(
                input_ids=inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                generation_config=config,
            )
        return [self._decoded(row) for row in written.tolist()]

    def _decoded(self, tokens: list[int]) -> str:
        text: Any = self.tokenizer.decode(tokens, skip_special_tokens=True)
        return text.strip()

    def _check_room(self, rows: list[list[int]], new: int) -> None:
        model: Any = self.model
        context = getattr(model.config, "max_position_embeddings", None)
        longest = max(map(len, rows))
        if context is not None and longest + new > context:
            raise SettingsError(
                f"a prompt of {longest} tokens leaves no room for {new} more in the {context} that "
                "the model sees: shorten it, or lower --max-new-tokens"
            )


def open_writer(path: Path) -> Writer:
    """Return the model that lies at ``path``: a run's, or that of any adapter directory.

    Raises:
        AdapterError: There is neither, or it cannot be read.
        ModelError: The base cannot be loaded.
        SettingsError: The run's model writes nothing.
    """
    run = find_run(path)
    if run is not None:
        form = _form_of(run.task)
        return Writer(on_accelerator(run.trained_model()), run.task.tokenizer(), form)  # type: ignore[attr-defined]
    check_adapter_directory(path)
    name = str(read_config(path).get("base_model_name_or_path"))
    tokenizer = own_tokenizer(name)
    base = load_model(AutoModelForCausalLM, name, seed=0)
    model = on_accelerator(with_adapter(base, path))
    return Writer(model, tokenizer, "chat" if tokenizer.chat_template else "plain")


def _form_of(task: Task) -> Form:
    if isinstance(task, GenerationTask):
        return task.template
    if isinstance(task, TextToText):
        return "text-to-text"
    if isinstance(task, SupervisedFineTuning | Preference):
        return "chat" if task.has_conversations else "plain"
    if isinstance(task, CausalLm):
        return "plain"
    raise SettingsError(
        f"a model for {task.name} writes nothing: name a run on instructions, sft, preference, "
        "causal-lm or text-to-text"
    )
