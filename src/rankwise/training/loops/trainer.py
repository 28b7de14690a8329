"""Training by Transformers' ``Trainer``: checkpoints at each epoch, resumed exactly.

A process that is killed while it writes or deletes a checkpoint leaves a part of one, under the
name that the Trainer would take for the newest. So whole ones bear a mark that is written last.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset
from transformers import (
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, rotate_checkpoints, sort_checkpoints

from rankwise.core.errors import SettingsError
from rankwise.core.records import write_text
from rankwise.tasks.splits import Batch
from rankwise.training.job import Job
from rankwise.training.loops.chains import build_callback
from rankwise.training.loops.optimization import build_optimizer, build_schedule
from rankwise.training.loops.order import EpochOrder
from rankwise.training.loops.results import (
    Trained,
    count_parameters,
    finite_loss_required,
    is_stalled,
)
from rankwise.training.probes.during_training import DiagnosticsCallback
from rankwise.training.records import CurvePoint

KEPT_CHECKPOINTS = 2
MARK = "complete"


class RowNumbers(Dataset[int]):
    """The numbers of the rows: a batch is cut and padded where it is collated, all rows at once."""

    def __init__(self, size: int) -> None:
        self._size = size

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, index: int) -> int:
        return index


class JobTrainer(Trainer):
    """A ``Trainer`` that takes the job's rows in the job's order, and scores as its task does."""

    def __init__(self, job: Job, **arguments: Any) -> None:
        super().__init__(
            model=job.model,
            train_dataset=RowNumbers(len(job.splits.train)),
            eval_dataset=RowNumbers(len(job.splits.validation)),
            data_collator=self._collate,
            **arguments,
        )
        self._job = job
        # A mean over the batches of a step, whether or not a model can be told the step's size:
        # most ignore what they are told, and would take the sum.
        self.model_accepts_loss_kwargs = False

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Score the model on validation and tell the log, the trackers and the callbacks."""
        result = self._job.validate()
        metrics = {"eval_loss": result.loss, "eval_score": result.score}
        metrics |= {f"eval_{name}": value for name, value in result.scores.items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        finish_checkpoint(
            Path(str(self.args.output_dir)),
            self.state.global_step,
            keep=KEPT_CHECKPOINTS,
            best=self.state.best_model_checkpoint,
        )

    def _collate(self, rows: list[int]) -> Batch:
        return self._job.splits.train.take(torch.tensor(rows))

    def _get_train_sampler(self, train_dataset: Any = None) -> EpochOrder:
        return EpochOrder(self._job.order, size=len(self._job.splits.train))


class PatienceCallback(TrainerCallback):
    """Stops the training when the validation loss stalls."""

    def __init__(self, patience: int) -> None:
        self._patience = patience

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Look at the losses so far; the epoch's checkpoint is still written."""
        losses = [point.validation_loss for point in _curve(state.log_history)]
        if is_stalled(losses, self._patience):
            control.should_training_stop = True


def train_with_trainer(
    job: Job, checkpoints: Path, *, resume: bool, show_progress: bool = False
) -> Trained:
    """Train the job to its end.

    With ``resume`` the run goes on from the last checkpoint in the folder, if there is one.
    """
    last = last_checkpoint(checkpoints) if resume else None
    chain = build_callback(job)
    optimizer = build_optimizer(job.model, job.settings)
    parameters = count_parameters(job.model)
    schedule = build_schedule(optimizer, job.settings.training, steps=job.steps)
    patience = job.settings.training.patience
    diagnostics = DiagnosticsCallback(job)
    callbacks = [PatienceCallback(patience)] if patience is not None else []
    try:
        trainer = JobTrainer(
            job,
            args=_arguments(job, checkpoints, is_fresh=last is None, show_progress=show_progress),
            callbacks=[*callbacks, *([chain] if chain is not None else []), diagnostics],
            optimizers=(optimizer, schedule),
        )
    except (ValueError, RuntimeError, ImportError) as error:  # a tracker that is not there
        raise SettingsError(f"training: {error}") from error
    # It prints raw dictionaries where there is no bar: the record and the trackers have them.
    trainer.remove_callback(PrinterCallback)
    with finite_loss_required(job.model):
        trainer.train(resume_from_checkpoint=last)
    curve = _curve(trainer.state.log_history)
    keeps_best = job.settings.training.keep == "best"
    return Trained(
        curve,
        parameters,
        best=_best(curve) if keeps_best else curve[-1],
        diagnostics=diagnostics.points(trainer.state),
        diagnostics_seconds=diagnostics.seconds,
    )


def _arguments(
    job: Job, checkpoints: Path, *, is_fresh: bool, show_progress: bool
) -> TrainingArguments:
    training = job.settings.training
    arguments = TrainingArguments(
        output_dir=str(checkpoints),
        num_train_epochs=training.epochs,
        per_device_train_batch_size=training.batch_size,
        gradient_accumulation_steps=training.accumulation_steps,
        max_grad_norm=training.max_grad_norm or 0.0,
        bf16=training.bf16,
        activation_checkpointing=training.gradient_checkpointing,
        logging_strategy="epoch",
        eval_strategy="epoch",
        eval_on_start=is_fresh,
        save_strategy="epoch",
        save_total_limit=None,  # `finish_checkpoint` deletes them, after the new one has its mark
        load_best_model_at_end=training.keep == "best",
        metric_for_best_model="score",
        greater_is_better=True,
        seed=job.settings.seed,
        remove_unused_columns=False,
        disable_tqdm=not show_progress,
        report_to=training.report_to,
        use_cpu=not torch.cuda.is_available(),
    )
    return on_one_device(arguments)


def on_one_device(arguments: TrainingArguments) -> TrainingArguments:
    """Keep a Trainer from DataParallel, which it takes by itself where a process sees several GPUs.

    DataParallel makes copies of the model at each step, in which a chain's folds and hooks would be
    lost.
    """
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1
    return arguments


def _best(curve: list[CurvePoint]) -> CurvePoint:
    """Return the first of the best trained points, the one that the Trainer went back to."""
    return max(curve[1:], key=lambda point: point.validation_score)


def _curve(log: list[dict[str, Any]]) -> list[CurvePoint]:
    losses = {entry["step"]: entry["loss"] for entry in log if "loss" in entry}
    return [
        CurvePoint(
            step=entry["step"],
            train_loss=losses.get(entry["step"]),
            validation_loss=entry["eval_loss"],
            validation_score=entry["eval_score"],
        )
        for entry in log
        if "eval_score" in entry
    ]


def finish_checkpoint(folder: Path, step: int, *, keep: int, best: str | None) -> None:
    """Mark the checkpoint of ``step`` as whole, then delete all but the newest and ``best``.

    In that order: whenever the process dies, the newest checkpoint with a mark is whole.
    """
    write_text(folder / f"{PREFIX_CHECKPOINT_DIR}-{step}" / MARK, f"{step}\n")
    # By number: what is left of a deletion that was interrupted is the newest by its time.
    rotate_checkpoints(
        str(folder), save_total_limit=keep, best_model_checkpoint=best, use_mtime=False
    )


def last_checkpoint(folder: Path) -> str | None:
    """Return the newest whole checkpoint in ``folder``, if any; newer parts of one are deleted."""
    if not folder.is_dir():
        return None
    for checkpoint in reversed(sort_checkpoints(str(folder))):
        if (Path(checkpoint) / MARK).is_file():
            return checkpoint
        shutil.rmtree(checkpoint)
    return None
