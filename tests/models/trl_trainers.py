"""TRL's trainers with a reference, on a few sentences."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from datasets import Dataset
from torch import nn
from transformers import Trainer, TrainerCallback
from trl import DPOConfig, DPOTrainer, GRPOConfig, GRPOTrainer, KTOConfig, KTOTrainer

from tests.models.language import options, sentences, tokenizer

Callbacks = Sequence[TrainerCallback]


def dpo(
    model: nn.Module, folder: Path, callbacks: Callbacks = (), *, steps: int, **changed
) -> Trainer:
    texts = sentences()
    pairs = {"prompt": texts[:20], "chosen": texts[20:40], "rejected": texts[40:60]}
    return DPOTrainer(
        model,
        args=DPOConfig(**_arguments(folder, steps, changed)),
        train_dataset=Dataset.from_dict(pairs),
        processing_class=tokenizer(),
        callbacks=list(callbacks),
    )


def kto(
    model: nn.Module, folder: Path, callbacks: Callbacks = (), *, steps: int, **changed
) -> Trainer:
    texts = sentences()
    labels = [number % 2 == 0 for number in range(20)]
    judged = {"prompt": texts[:20], "completion": texts[20:40], "label": labels}
    return KTOTrainer(
        model,
        args=KTOConfig(**_arguments(folder, steps, changed)),
        train_dataset=Dataset.from_dict(judged),
        processing_class=tokenizer(),
        callbacks=list(callbacks),
    )


def grpo(
    model: nn.Module, folder: Path, callbacks: Callbacks = (), *, steps: int, **changed
) -> Trainer:
    def reward(completions, **_):
        return [float(len(set(text))) for text in completions]

    sampling = {"num_generations": 4, "max_completion_length": 4, "beta": 0.1}
    return GRPOTrainer(
        model,
        reward_funcs=reward,
        args=GRPOConfig(**_arguments(folder, steps, changed), **sampling),
        train_dataset=Dataset.from_dict({"prompt": sentences()[:20]}),
        processing_class=tokenizer(),
        callbacks=list(callbacks),
    )


def _arguments(folder: Path, steps: int, changed: dict) -> dict:
    return options(folder, max_steps=steps, gradient_checkpointing=False, **changed)
