"""A tiny Llama with a tokenizer of its own, sentences for it, and three ways to train it."""

from __future__ import annotations

import functools
from pathlib import Path

import torch
from datasets import Dataset, disable_progress_bars
from torch import nn
from torch.utils.data import SequentialSampler
from transformers import (
    DataCollatorForLanguageModeling,
    PreTrainedTokenizerBase,
    Trainer,
    TrainingArguments,
)
from trl import SFTConfig, SFTTrainer

from tests.models.architectures import llama
from tests.models.saved import make_tokenizer

STEPS, ROWS, RATE = 20, 4, 1e-2
disable_progress_bars()


def sentences() -> list[str]:
    """As many as the steps take, no two alike, of different lengths."""
    subjects = ["the cat", "a dog", "the old man", "my aunt"]
    verbs = ["sees", "likes", "draws", "paints slowly", "follows"]
    objects = ["a tree", "the river", "two birds", "the house on the hill"]
    return [f"{s} {v} {o}" for s in subjects for v in verbs for o in objects][: STEPS * ROWS]


@functools.cache
def tokenizer() -> PreTrainedTokenizerBase:
    """One that adds no end token: TRL does so itself."""
    words = make_tokenizer(sentences())
    words.backend_tokenizer.post_processor = None
    return words


def rows() -> list[dict[str, list[int]]]:
    """The sentences as tokens, each with its end."""
    words = tokenizer()
    return [{"input_ids": [*words(text)["input_ids"], words.eos_token_id]} for text in sentences()]


def language_model(*, hidden_size: int = 32, intermediate_size: int = 48) -> nn.Module:
    """The same weights at each call."""
    words = tokenizer()
    sizes = {"hidden_size": hidden_size, "intermediate_size": intermediate_size}
    sizes |= {"num_hidden_layers": 2}
    tokens = {
        "vocab_size": len(words),
        "pad_token_id": words.pad_token_id,
        "bos_token_id": None,
        "eos_token_id": words.eos_token_id,
    }
    return llama(**sizes, **tokens)


def batches() -> list[dict[str, torch.Tensor]]:
    """The rows of all steps, as a collator of Transformers makes batches of them."""
    collate = DataCollatorForLanguageModeling(tokenizer(), mlm=False)
    tokens = rows()
    return [dict(collate(tokens[at : at + ROWS])) for at in range(0, len(tokens), ROWS)]


@torch.no_grad()
def mean_loss(model: nn.Module) -> float:
    """Return the mean of the losses of all batches, nothing trained."""
    losses = [model.eval()(**batch)["loss"].item() for batch in batches()]
    return sum(losses) / len(losses)


def plain_losses(model: nn.Module) -> list[float]:
    """Train by a loop of a few lines."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=RATE, weight_decay=0.0)
    losses = []
    for batch in batches():
        loss = model.train()(**batch)["loss"]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def options(folder: Path, **changed) -> dict[str, object]:
    """Arguments that Transformers' and TRL's trainers have in common."""
    return {
        "output_dir": str(folder),
        "max_steps": STEPS,
        "per_device_train_batch_size": ROWS,
        "learning_rate": RATE,
        "lr_scheduler_type": "constant",
        "max_grad_norm": 0.0,
        "logging_steps": 1,
        "save_strategy": "no",
        "disable_tqdm": True,
        "report_to": [],
        "use_cpu": True,
        "bf16": False,
        **changed,
    }


class InOrder(Trainer):
    def _get_train_sampler(self, *_) -> SequentialSampler:
        return SequentialSampler(self.train_dataset)


class SFTInOrder(SFTTrainer):
    def _get_train_sampler(self, *_) -> SequentialSampler:
        return SequentialSampler(self.train_dataset)


def trainer_of(model: nn.Module, folder: Path, *, callbacks=(), **changed) -> Trainer:
    return InOrder(
        model=model,
        args=TrainingArguments(**options(folder, **changed)),
        train_dataset=Dataset.from_list(rows()),
        data_collator=DataCollatorForLanguageModeling(tokenizer(), mlm=False),
        callbacks=list(callbacks),
    )


def sft_trainer_of(
    model: nn.Module, folder: Path, *, callbacks=(), peft_config=None, **changed
) -> SFTTrainer:
    arguments = options(folder, gradient_checkpointing=None, **changed)
    return SFTInOrder(
        model=model,
        args=SFTConfig(**arguments),
        train_dataset=Dataset.from_list([{"text": text} for text in sentences()]),
        processing_class=tokenizer(),
        peft_config=peft_config,
        callbacks=list(callbacks),
    )


def losses_of(trainer: Trainer) -> list[float]:
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
