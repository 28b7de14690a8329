"""What a run costs here, measured on a few of its steps."""

from __future__ import annotations

import statistics
import time
from contextlib import nullcontext
from pathlib import Path

import torch
from peft import PeftModel, get_peft_model_state_dict
from torch import Tensor, nn

from rankwise.capture.batches import to_device
from rankwise.core import runtime
from rankwise.core.modules import device_of
from rankwise.core.seeds import derive_seed
from rankwise.evaluation.scores import evaluate
from rankwise.tasks.splits import Batch, Rows
from rankwise.training.folder import RunFolder
from rankwise.training.initialization import initialize_adapter, needs_reference
from rankwise.training.job import Job, prepare_job
from rankwise.training.loops.chains import build_chain
from rankwise.training.loops.optimization import build_optimizer, trained_parameters
from rankwise.training.loops.results import count_parameters
from rankwise.training.probes.cost import RunCost
from rankwise.training.settings.run import RunSettings

TIMED_STEPS = 4
SCORED_ROWS = 64


def probe_run(settings: RunSettings, output: Path) -> RunCost:
    """Begin the run, take a few steps and score a few rows; nothing but a base model is written.

    Raises:
        SettingsError: The run could not begin.
    """
    runtime.reset_peak_memory()
    begun = time.perf_counter()
    folder = RunFolder.below(output, settings.name)
    job = prepare_job(settings, folder.base)
    job.place()
    reference = needs_reference(settings.method)
    if not reference:
        initialize_adapter(job, folder)
    with build_chain(job) or nullcontext():
        start = time.perf_counter() - begun
        step = _step_seconds(job)
        scoring = _scoring_seconds(job)
        # The reference is a LoRA that is trained for as long as the run itself.
        start += job.steps * step if reference else 0.0
        return RunCost(
            run=settings.name,
            epochs=settings.training.epochs,
            steps=job.steps,
            trainable_parameters=count_parameters(job.model).adapter,
            stored_bytes=_stored_bytes(job.model),
            peak_memory_bytes=runtime.peak_memory_bytes(),
            start_seconds=start,
            step_seconds=step,
            scoring_seconds=scoring,
        )


def _step_seconds(job: Job) -> float:
    training, device = job.settings.training, device_of(job.model)
    optimizer = build_optimizer(job.model, job.settings)
    batches = job.order(0).split(training.batch_size)
    job.model.train()
    seconds = []
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(derive_seed(job.settings.seed, "training"))
        for number in range(TIMED_STEPS):
            begun = time.perf_counter()
            batch = to_device(job.splits.train.take(batches[number % len(batches)]), device)
            with torch.autocast(device.type, torch.bfloat16, enabled=training.bf16):
                loss = job.model(**batch)["loss"]
            loss.backward()
            if training.max_grad_norm is not None:
                nn.utils.clip_grad_norm_(trained_parameters(optimizer), training.max_grad_norm)
            optimizer.step()
            optimizer.zero_grad()
            loss.item()  # waits for the device
            seconds.append(time.perf_counter() - begun)
    # The first step also allocates.
    return statistics.median(seconds[1:]) * training.accumulation_steps


def _scoring_seconds(job: Job) -> float:
    rows = job.splits.validation
    few = _FirstRows(rows, min(SCORED_ROWS, len(rows)))
    begun = time.perf_counter()
    evaluate(job.model, few, job.task, bf16=job.settings.training.bf16)
    return (time.perf_counter() - begun) / len(few) * len(rows)


class _FirstRows(Rows):
    """The first rows of others."""

    def __init__(self, rows: Rows, count: int) -> None:
        self._rows, self._count = rows, count
        self.lengths = None if rows.lengths is None else rows.lengths[:count]

    def __len__(self) -> int:
        return self._count

    def take(self, index: Tensor | slice) -> Batch:
        """Return the rows ``index`` as one batch."""
        return self._rows.take(torch.arange(self._count)[index])


def _stored_bytes(model: nn.Module) -> int:
    state = get_peft_model_state_dict(model) if isinstance(model, PeftModel) else model.state_dict()
    # Tied weights are stored once.
    return sum({tensor.data_ptr(): tensor.nbytes for tensor in state.values()}.values())
