"""Training by Transformers' ``Trainer``: checkpoints at each epoch and at a stop, resumed exactly.

A process that is killed while it writes or deletes a checkpoint leaves a part of one, under the
name that the Trainer would take for the newest. So whole ones bear a mark that is written last.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset
from transformers import (
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, rotate_checkpoints, sort_checkpoints

from rankwise.core.errors import SettingsError, TrainingError
from rankwise.core.interrupts import delayed_interrupt
from rankwise.core.library_noise import without_bars
from rankwise.core.records import write_text
from rankwise.tasks.splits import Batch
from rankwise.training.job import Job
from rankwise.training.loops.chains import build_callback
from rankwise.training.loops.elapsed import ElapsedCallback
from rankwise.training.loops.optimization import (
    allocate_budget,
    build_optimizer,
    build_schedule,
)
from rankwise.training.loops.order import EpochOrder
from rankwise.training.loops.results import (
    Tell,
    Trained,
    count_parameters,
    finite_loss_required,
    is_stalled,
)
from rankwise.training.loops.stopping import StopCallback
from rankwise.training.probes.during_training import DiagnosticsCallback
from rankwise.training.processes import is_main_process, number_of_processes
from rankwise.training.records import CurvePoint, StepPoint

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

    def __init__(self, job: Job, *, tell: Tell | None, **arguments: Any) -> None:
        super().__init__(
            model=job.model,
            train_dataset=RowNumbers(len(job.splits.train)),
            eval_dataset=RowNumbers(len(job.splits.validation)),
            data_collator=self._collate,
            **arguments,
        )
        self._job = job
        self._tell = tell
        self._order = EpochOrder(job.order, size=len(job.splits.train))
        # A mean over the batches of a step, whether or not a model can be told the step's size:
        # most ignore what they are told, and would take the sum.
        self.model_accepts_loss_kwargs = False

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Score the model on validation and tell the log, the trackers and the callbacks."""
        result = self._job.validate()
        metrics = {"eval_loss": result.loss, "eval_score": result.score}
        metrics |= {f"eval_{name}": value for name, value in result.scores.items()}
        self.log(metrics)
        if self._tell is not None and self.state.global_step:
            self._tell(_curve(self.state.log_history)[-1])
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()
        if self.is_world_process_zero():
            finish_checkpoint(
                Path(str(self.args.output_dir)),
                self.state.global_step,
                keep=KEPT_CHECKPOINTS,
                best=self.state.best_model_checkpoint,
            )
        self.accelerator.wait_for_everyone()

    def _load_best_model(self) -> None:
        """Go back to the best checkpoint: without it the Trainer would keep the last weights.

        Raises:
            TrainingError: It was removed.
        """
        best = Path(str(self.state.best_model_checkpoint))
        if not best.is_dir():
            raise TrainingError(
                f"the best checkpoint, {best}, was removed while the run trained: leave the folder "
                "alone, and run again"
            )
        super()._load_best_model()

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        """Warn of weights that a checkpoint lacks, but not of another name for a tied one."""
        if missing := set(load_result.missing_keys):
            weights = self._job.model.state_dict()
            read = {each.data_ptr() for name, each in weights.items() if name not in missing}
            load_result.missing_keys[:] = [
                name for name in sorted(missing) if weights[name].data_ptr() not in read
            ]
        super()._issue_warnings_after_load(load_result)

    def _collate(self, rows: list[int]) -> Batch:
        return self._job.splits.train.take(torch.tensor(rows))

    def _get_train_sampler(self, train_dataset: Any = None) -> EpochOrder:
        return self._order

    def _run_epoch(self, *, epoch: int, **named: Any) -> None:  # type: ignore[override]
        # Accelerate does not reach it where rows are dealt out to processes and some are skipped.
        self._order.set_epoch(epoch)
        super()._run_epoch(epoch=epoch, **named)


class BudgetCallback(TrainerCallback):
    """Lets AdaLoRA move its rank between layers."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Do so while the gradients are there."""
        allocate_budget(self._model, state.global_step + 1)


class LoggingCallback(TrainerCallback):
    """Has the Trainer log after every so many steps, beside the end of each epoch."""

    def __init__(self, every: int) -> None:
        self._every = every

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Ask for a line of the log where one is due."""
        if state.global_step % self._every == 0:
            control.should_log = True


class PatienceCallback(TrainerCallback):
    """Stops the training when the validation loss stalls."""

    def __init__(self, patience: int) -> None:
        self._patience = patience

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Look at the losses so far; the epoch's checkpoint is still written."""
        if is_stalled(_validation_losses(state), self._patience):
            control.should_training_stop = True


def train_with_trainer(
    job: Job,
    checkpoints: Path,
    *,
    resume: bool,
    show_progress: bool = False,
    tell: Tell | None = None,
) -> Trained:
    """Train the job to its end; ``tell`` hears of each epoch.

    With ``resume`` the run goes on from the last checkpoint in the folder, if there is one.

    Raises:
        KeyboardInterrupt: Ctrl-C, or a SIGTERM that has a handler, came: the step under way was
            taken, and a checkpoint written. A second Ctrl-C does not wait for that.
    """
    last = last_checkpoint(checkpoints) if resume else None
    chain = build_callback(job)
    optimizer = build_optimizer(job.model, job.settings)
    parameters = count_parameters(job.model)
    schedule = build_schedule(optimizer, job.settings.training, steps=job.steps)
    training, diagnostics = job.settings.training, DiagnosticsCallback(job)
    elapsed = ElapsedCallback(diagnostics)
    callbacks: list[TrainerCallback] = [BudgetCallback(job.model), elapsed]
    if training.patience is not None:
        callbacks.append(PatienceCallback(training.patience))
    if training.logging_steps is not None:
        callbacks.append(LoggingCallback(training.logging_steps))
    try:
        trainer = JobTrainer(
            job,
            tell=tell,
            args=_arguments(job, checkpoints, last=last, show_progress=show_progress),
            callbacks=[*callbacks, *([chain] if chain is not None else []), diagnostics],
            optimizers=(optimizer, schedule),
        )
    except (ValueError, RuntimeError, ImportError) as error:  # a tracker that is not there
        raise SettingsError(f"training: {error}") from error
    # It prints raw dictionaries where there is no bar: the record and the trackers have them.
    trainer.remove_callback(PrinterCallback)
    with without_bars(), finite_loss_required(job.model), _waiting_signals() as received:
        stop = StopCallback(trainer, received, steps_per_epoch=job.steps_per_epoch)
        trainer.add_callback(stop)
        trainer.train(resume_from_checkpoint=last)
    curve = _curve(trainer.state.log_history)
    keeps_best = job.settings.training.keep == "best"
    return Trained(
        curve,
        parameters,
        best=_best(curve) if keeps_best else curve[-1],
        diagnostics=diagnostics.points(trainer.state),
        diagnostics_seconds=elapsed.diagnosing,
        earlier_seconds=elapsed.before,
        steps=_steps(trainer.state.log_history) if training.logging_steps else [],
        folds=chain.fold_steps if chain is not None else [],
    )


def _waiting_signals() -> AbstractContextManager[Sequence[object]]:
    # A launcher passes on to its processes what a terminal has sent them already.
    return delayed_interrupt(is_insisted_on=number_of_processes() == 1)


def _arguments(
    job: Job, checkpoints: Path, *, last: str | None, show_progress: bool
) -> TrainingArguments:
    training, is_shared = job.settings.training, number_of_processes() > 1
    arguments = TrainingArguments(
        output_dir=str(checkpoints),
        num_train_epochs=_epochs(job, last),
        per_device_train_batch_size=training.batch_size // number_of_processes(),
        gradient_accumulation_steps=training.accumulation_steps,
        max_grad_norm=training.max_grad_norm or 0.0,
        bf16=training.bf16,
        activation_checkpointing=training.gradient_checkpointing,
        logging_strategy="epoch",
        eval_strategy="epoch",
        eval_on_start=last is None,
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
        ddp_backend="gloo" if is_shared and not torch.cuda.is_available() else None,
    )
    return on_one_device(arguments)


def _epochs(job: Job, last: str | None) -> int:
    """Return how many epochs there are: no more where a checkpoint lies where the loss stalled."""
    training = job.settings.training
    if last is not None:
        state = TrainerState.load_from_json(str(Path(last) / TRAINER_STATE_NAME))
        if is_stalled(_validation_losses(state), training.patience):
            return state.global_step // job.steps_per_epoch
    return training.epochs


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
    losses = [(entry["step"], entry["loss"]) for entry in log if "loss" in entry]
    evaluated = [0, *(entry["step"] for entry in log if "eval_score" in entry)]
    begun = {step: before for before, step in itertools.pairwise(evaluated)}
    return [
        CurvePoint(
            step=entry["step"],
            train_loss=_mean_loss(losses, begun[entry["step"]], entry["step"]),
            validation_loss=entry["eval_loss"],
            validation_score=entry["eval_score"],
        )
        for entry in log
        if "eval_score" in entry
    ]


def _validation_losses(state: TrainerState) -> list[float]:
    return [point.validation_loss for point in _curve(state.log_history)]


def _mean_loss(losses: list[tuple[int, float]], begun: int, ended: int) -> float | None:
    """Return the mean over the steps of an epoch; each entry is the mean since the one before."""
    entries = [(step, loss) for step, loss in losses if begun < step <= ended]
    if len(entries) < 2:
        return entries[0][1] if entries else None
    steps = [begun, *(step for step, _ in entries)]
    weights = [step - before for before, step in itertools.pairwise(steps)]
    total = sum(weight * loss for weight, (_, loss) in zip(weights, entries, strict=True))
    return total / (ended - begun)


def _steps(log: list[dict[str, Any]]) -> list[StepPoint]:
    return [
        StepPoint(
            step=entry["step"],
            loss=entry["loss"],
            learning_rate=entry["learning_rate"],
            gradient_norm=entry.get("grad_norm"),
        )
        for entry in log
        if "loss" in entry
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
        if is_main_process():
            shutil.rmtree(checkpoint)
    return None
