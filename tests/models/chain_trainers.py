"""Trainers of the network under a LoRA, and callbacks that watch a chain there."""

from __future__ import annotations

import torch
from torch.utils.data import Dataset, IterableDataset
from transformers import Trainer, TrainerCallback, TrainingArguments

from rankwise.methods.adapters import bridge
from rankwise.methods.chain.callback import ChainCallback
from tests.models.chains import (
    layers,
)

ROWS = 12


class Rows(Dataset):
    def __init__(self, broken_at: int | None = None) -> None:
        self.x = torch.randn(ROWS, 7, generator=torch.Generator().manual_seed(2))
        self.broken_at, self.read = broken_at, 0

    def __len__(self) -> int:
        return ROWS

    def __getitem__(self, row: int) -> dict[str, torch.Tensor]:
        self.read += 1
        if self.read == self.broken_at:
            raise KeyboardInterrupt
        return {"x": self.x[row], "labels": torch.tensor(row % 5)}


class Endless(IterableDataset):
    def __iter__(self):
        while True:
            yield {"x": torch.ones(7), "labels": torch.tensor(0)}


class Watch(TrainerCallback):
    """Notes the number of folds and what the adapter has learned after each step."""

    def __init__(self, chain: ChainCallback) -> None:
        self.chain, self.folds, self.learned = chain, [], []

    def on_step_end(self, args, state, control, **kwargs):
        self.folds.append(self.chain.chain.folds)
        self.learned.append(changes(self.chain.chain.model))


class StopAt(TrainerCallback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            control.should_training_stop = control.should_save = True


def changes(model):
    return [bridge.delta(layer, "default").detach().clone() for layer in layers(model).values()]


def make_trainer(model, folder, *, callbacks, data=None, optimizers=(None, None), **options):
    arguments = TrainingArguments(
        **{
            "output_dir": str(folder),
            "use_cpu": True,
            "report_to": [],
            "disable_tqdm": True,
            "per_device_train_batch_size": 4,
            "learning_rate": 0.05,
            "max_steps": 9,
            "save_strategy": "no",
            "label_names": ["labels"],
            "optim": "adamw_torch",
            **options,
        }
    )
    data = data or Rows()
    return Trainer(
        model,
        arguments,
        train_dataset=data,
        eval_dataset=data,
        callbacks=callbacks,
        optimizers=optimizers,
    )
