"""Training by Transformers' ``Trainer``: checkpoints at each epoch, resumed exactly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

from rankwise.evaluation.classification import evaluate
from rankwise.training.chains import build_callback
from rankwise.training.job import Job
from rankwise.training.optimization import build_optimizer, build_schedule, trained_parameters
from rankwise.training.order import EpochOrder
from rankwise.training.progress import CurvePoint, Trained, finite_loss_required, is_stalled


class OrderedTrainer(Trainer):
    """A ``Trainer`` whose rows come in the order of :class:`EpochOrder`."""

    def _get_train_sampler(self, train_dataset: Any = None) -> EpochOrder:
        rows = train_dataset if train_dataset is not None else self.train_dataset
        return EpochOrder(len(rows), seed=self.args.seed)  # type: ignore[arg-type]


class CurveCallback(TrainerCallback):
    """Adds the validation scores to the Trainer's log, which its checkpoints carry along."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Score the initialised model, unless the run is resumed."""
        if state.global_step == 0:
            self._add(state)

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Score the model after an epoch, before its checkpoint is written; stop if it stalls."""
        self._add(state)
        losses = [point.validation_loss for point in _curve(state.log_history)]
        if is_stalled(losses, self._job.settings.training.patience):
            control.should_training_stop = True

    def _add(self, state: TrainerState) -> None:
        result = evaluate(self._job.model, self._job.splits.validation)
        state.log_history.append(
            {
                "step": state.global_step,
                "validation_loss": result.loss,
                "validation_score": result.score,
            }
        )


def train_with_trainer(job: Job, checkpoints: Path, *, resume: bool) -> Trained:
    """Train the job to its end.

    With ``resume`` the run goes on from the last checkpoint in the folder, if there is one.
    """
    chain = build_callback(job)
    optimizer = build_optimizer(job.model, job.settings)
    trainable = sum(parameter.numel() for parameter in trained_parameters(optimizer))
    schedule = build_schedule(optimizer, job.settings.training, steps=job.steps)
    trainer = OrderedTrainer(
        model=job.model,
        args=_arguments(job, checkpoints),
        train_dataset=job.splits.train,
        callbacks=[CurveCallback(job), *([chain] if chain is not None else [])],
        optimizers=(optimizer, schedule),  # type: ignore[arg-type]
    )
    last = get_last_checkpoint(str(checkpoints)) if resume and checkpoints.is_dir() else None
    with finite_loss_required(job.model):
        trainer.train(resume_from_checkpoint=last)
    return Trained(_curve(trainer.state.log_history), trainable)


def _arguments(job: Job, checkpoints: Path) -> TrainingArguments:
    training = job.settings.training
    return TrainingArguments(
        output_dir=str(checkpoints),
        num_train_epochs=training.epochs,
        per_device_train_batch_size=training.batch_size,
        max_grad_norm=training.max_grad_norm or 0.0,
        logging_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=2,
        seed=job.settings.seed,
        remove_unused_columns=False,
        disable_tqdm=True,
        report_to=[],
        use_cpu=not torch.cuda.is_available(),
    )


def _curve(log: list[dict[str, Any]]) -> list[CurvePoint]:
    losses = {entry["step"]: entry["loss"] for entry in log if "loss" in entry}
    return [
        CurvePoint(
            step=entry["step"],
            train_loss=losses.get(entry["step"]),
            validation_loss=entry["validation_loss"],
            validation_score=entry["validation_score"],
        )
        for entry in log
        if "validation_score" in entry
    ]
