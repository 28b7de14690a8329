"""What one batch and one optimizer step can tell of a run before its hours begin.

    captured_share   ‖P G‖² / ‖G‖²: the share of the gradient that the adapter can follow
    relative_norm    ‖ΔW₀‖ / ‖W‖: how far from the base it begins
    jump             ‖ΔW₁ - ΔW₀‖ / ‖W‖: how far the first step that moves a weight takes it

A warm-up begins at a rate of zero, so that this is its second step, at the rate that it has there.
Norms are Frobenius norms, by layer and over all layers together. PEFT's DeLoRA is the reason for
the last: its first step is as long at any learning rate.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch
from peft import PeftModel
from torch import Tensor, nn

from rankwise.capture.batches import to_device
from rankwise.capture.gradients import capture_gradients
from rankwise.core import runtime
from rankwise.core.errors import ModelError
from rankwise.core.modules import device_of
from rankwise.core.seeds import derive_seed
from rankwise.methods.chain.captured import Shares
from rankwise.methods.chain.layer import OpenedLayer
from rankwise.tasks.splits import Batch
from rankwise.training.folder import RunFolder
from rankwise.training.initialization import (
    initialize_adapter,
    needs_reference,
    warning_of_scaling,
)
from rankwise.training.job import Job, prepare_job
from rankwise.training.loops.chains import build_chain
from rankwise.training.loops.optimization import (
    build_optimizer,
    first_step_learning_rate,
    trained_parameters,
)
from rankwise.training.probes.layers import (
    ProbedLayer,
    adapted_layers_of,
    distance,
    norm_of,
    relative_norm_of_all,
    shares_of,
)
from rankwise.training.settings.run import RunSettings

LARGE_JUMP = 0.1
LARGE_OUTPUT_CHANGE = 0.1
LITTLE_CAPTURED = 1e-4
LARGE_SKETCH = 10.0
TIMED_STEPS = 3


@dataclass(frozen=True)
class LayerFindings:
    """What was found of one layer; ``captured_share`` is None where it has no gradient."""

    name: str
    captured_share: float | None
    relative_norm: float
    jump: float


@dataclass(frozen=True)
class Findings:
    """What was found of one method; ``gradient_norm`` is that of the parameters that train."""

    name: str
    r: int | None
    budget: str
    learning_rate: float
    trainable_parameters: int
    captured_share: float | None
    relative_norm: float
    jump: float
    output_change: float
    gradient_norm: float
    init_seconds: float
    expected_seconds: float
    peak_memory_bytes: int
    layers: list[LayerFindings]
    warnings: list[str] = field(default_factory=list)


def examine(settings: RunSettings, folder: RunFolder) -> Findings:
    """Begin the run, take one step of it and a few more to time them, and say what was seen.

    Nothing is written but the base model that the task makes, in ``folder.base``.

    Raises:
        SettingsError: The run could not begin.
    """
    runtime.reset_peak_memory()
    job = prepare_job(settings, folder.base)
    job.place()
    rows = job.order(0)[: settings.training.batch_size]
    batch = to_device(job.splits.train.take(rows), device_of(job.model))
    job.model.eval()
    with _base_alone(job.model):
        before = _outputs(job.model, batch)
    begun, warnings = time.perf_counter(), []
    if needs_reference(settings.method):
        warnings.append("its reference is not trained here: seen before its initialization")
    else:
        initialize_adapter(job, folder)
    with build_chain(job) or nullcontext():
        seconds = time.perf_counter() - begun
        job.model.eval()
        output_change = float((_outputs(job.model, batch) - before).norm() / before.norm())
        return _examined(job, batch, output_change, seconds, warnings)


def _examined(
    job: Job, batch: Batch, output_change: float, init_seconds: float, warnings: list[str]
) -> Findings:
    layers = adapted_layers_of(job.model)
    shares = _shares(job, layers, batch, warnings)
    starts = {name: norm_of(layer.change()) for name, layer in layers.items()}
    jumps, norm, step_seconds = _jumps(job, layers, batch)
    method, parts = job.settings.method, []
    for name, layer in layers.items():
        relative_norm, jump = (norms[name] / layer.weight_norm for norms in (starts, jumps))
        parts.append(LayerFindings(name, shares.by_layer.get(name), relative_norm, jump))
    if method.adapter.kind not in ("full", "peft"):
        warnings += _warnings_of_rank(layers)
    findings = Findings(
        method.title,
        method.rank,
        method.budget,
        job.settings.training.learning_rate,
        trainable_parameters=sum(p.numel() for p in job.model.parameters() if p.requires_grad),
        captured_share=shares.of_all(),
        relative_norm=relative_norm_of_all(starts, layers),
        jump=relative_norm_of_all(jumps, layers),
        output_change=output_change,
        gradient_norm=norm,
        init_seconds=init_seconds,
        expected_seconds=init_seconds + job.steps * step_seconds,
        peak_memory_bytes=runtime.peak_memory_bytes(),
        layers=parts,
        warnings=warnings,
    )
    warnings += _warnings(findings)
    warnings += filter(None, [warning_of_scaling(method)])
    if findings.jump > LARGE_JUMP:
        warnings.append(_warning_of_jump(job, layers, batch, findings.jump))
    return findings


def _base_alone(model: nn.Module) -> AbstractContextManager[None]:
    """Switch the adapter off, if there is one."""
    return model.disable_adapter() if isinstance(model, PeftModel) else nullcontext()


def _outputs(model: nn.Module, batch: Batch) -> Tensor:
    with torch.no_grad():
        return model(**batch)["logits"].float()


def _shares(
    job: Job, layers: Mapping[str, ProbedLayer], batch: Batch, warnings: list[str]
) -> Shares:
    shares = shares_of(layers)
    if not layers:  # only biases train
        return shares
    try:
        capture_gradients(
            job.model,
            {name: layer.module for name, layer in layers.items()},
            batches=[batch],
            consume=shares.add,
        )
    except ModelError as error:
        warnings.append(str(error))
    return shares


def _jumps(
    job: Job, layers: Mapping[str, ProbedLayer], batch: Batch, *, slowed: float = 1.0
) -> tuple[dict[str, float], float, float]:
    """Take the run's first step that moves a weight, at its rate divided by ``slowed``; undo it.

    Returns:
        ‖ΔW₁ - ΔW₀‖ of each layer, the norm of the gradient, the seconds of a step.
    """
    rate = job.settings.training.learning_rate / slowed
    training = job.settings.training.model_copy(update={"learning_rate": rate})
    optimizer = build_optimizer(job.model, job.settings.model_copy(update={"training": training}))
    for group in optimizer.param_groups:
        group["lr"] *= first_step_learning_rate(training, steps=job.steps) / rate
    parameters = trained_parameters(optimizer)
    kept = [parameter.detach().clone() for parameter in parameters]
    starts = {name: layer.change() for name, layer in layers.items()}
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(derive_seed(job.settings.seed, "training"))
        norm, _ = _step(job, optimizer, batch)
        job.model.eval()
        jumps = {name: distance(layer.change(), starts[name]) for name, layer in layers.items()}
        seconds = [_step(job, optimizer, batch)[1] for _ in range(TIMED_STEPS)]
    job.model.eval()
    with torch.no_grad():
        for parameter, value in zip(parameters, kept, strict=True):
            parameter.copy_(value)
    return jumps, norm, statistics.median(seconds)


def _step(job: Job, optimizer: torch.optim.Optimizer, batch: Batch) -> tuple[float, float]:
    begun = time.perf_counter()
    job.model.train()
    job.model(**batch)["loss"].backward()
    limit = job.settings.training.max_grad_norm
    norm = nn.utils.clip_grad_norm_(trained_parameters(optimizer), limit or math.inf)
    optimizer.step()
    optimizer.zero_grad()
    return float(norm), time.perf_counter() - begun


def _warnings(findings: Findings) -> list[str]:
    warnings = []
    if not findings.gradient_norm:
        warnings.append("no gradient reaches what trains: it will not learn")
    elif findings.captured_share is not None and findings.captured_share < LITTLE_CAPTURED:
        warnings.append(
            f"it captures {findings.captured_share:.1e} of the gradient: it begins elsewhere"
        )
    if findings.output_change > LARGE_OUTPUT_CHANGE:
        warnings.append(
            f"its start changes the outputs of the base by {findings.output_change:.0%}"
        )
    return warnings


def _warnings_of_rank(layers: Mapping[str, ProbedLayer]) -> list[str]:
    """Say once of all layers of a size that their rank is above it."""
    names: dict[tuple[int, int], list[str]] = {}
    for name, layer in layers.items():
        rank, size = _rank(layer.module), min(layer.shape[-2:])
        if rank is not None and rank > size:
            names.setdefault((rank, size), []).append(name)
    return [
        f"rank {rank} is above the size of {first}"
        + (f" and {len(others)} more" if others else "")
        + f": rank {size} does the same for less"
        for (rank, size), (first, *others) in names.items()
    ]


def _sketch_ratio(job: Job, layers: Mapping[str, ProbedLayer]) -> float:
    """Return how much larger the scaled sketches are than PEFT's A; 0 where none is frozen.

    A first step of AdamW is lr times signs, so it moves the weight by a length that goes with the
    scaling and the root mean square of the other factor: 1 if ``gaussian``, 1/√(3 in) for PEFT's A.
    """
    if job.settings.method.side not in ("left", "right"):
        return 0.0
    ratios = []
    for layer in layers.values():
        if isinstance(layer.module, OpenedLayer):
            parts = layer.module.open_parts()
            drawn = parts["B" if job.settings.method.side == "left" else "A"].detach().float()
            size = layer.module.history.scaling * float(drawn.square().mean().sqrt())
            ratios.append(size * math.sqrt(3 * layer.shape[1]))
    return statistics.median(ratios) if ratios else 0.0


def _rank(module: object) -> int | None:
    ranks = getattr(module, "r", None)
    return ranks.get("default") if isinstance(ranks, dict) else None


def _warning_of_jump(job: Job, layers: Mapping[str, ProbedLayer], batch: Batch, jump: float) -> str:
    """Say whether the jump is the learning rate's, a large sketch's, or the method's own."""
    jumps, *_ = _jumps(job, layers, batch, slowed=100)
    slow = relative_norm_of_all(jumps, layers)
    warning = f"one step moves the weights by {jump:.0%} of their norm"
    if slow > jump / 2:
        return f"{warning}, at any learning rate: at a hundredth of it still by {slow:.0%}"
    if (ratio := _sketch_ratio(job, layers)) > LARGE_SKETCH:
        return (
            f"{warning}, as its frozen sketch is {ratio:.0f} times as large as the A of a fresh "
            "LoRA: lower training.learning_rate or alpha, or set schedule.sketch kaiming"
        )
    return f"{warning}: lower training.learning_rate"
