"""The chain that a job's schedule asks for; both loops use the same one."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor, nn

from rankwise.capture.gradients import capture_gradients
from rankwise.core.seeds import derive_seed
from rankwise.methods.chain import Chain
from rankwise.training.build import settings_errors
from rankwise.training.job import Job
from rankwise.training.settings import ChainSchedule, SingleSchedule


def build_chain(job: Job) -> Chain | None:
    """Return the chain, which prepares the model at once, or None for a single adapter.

    A frozen schedule (AsymmLoRA) is a chain of one block.
    """
    schedule = job.settings.method.schedule
    if isinstance(schedule, SingleSchedule):
        return None
    # One batch: then each layer is decomposed and freed within the backward pass.
    batch = job.splits.train.take(slice(schedule.gradient_samples))

    def gradients(layers: Mapping[str, nn.Module], consume: Callable[[str, Tensor], None]) -> None:
        capture_gradients(job.model, layers, batches=[batch], consume=consume)

    with settings_errors("method.schedule"):
        return Chain(
            job.model,
            side=schedule.side,
            sketch=schedule.sketch,
            seed=derive_seed(job.settings.seed, "chain"),
            gradients=gradients if schedule.sketch == "gradient" else None,
        )


def resets_optimizer(job: Job) -> bool:
    """Say whether the factors that a fold starts anew also start with a fresh optimizer state."""
    schedule = job.settings.method.schedule
    return isinstance(schedule, ChainSchedule) and schedule.reset_optimizer


def finish_chain(job: Job, chain: Chain) -> None:
    """Restore the base and leave one LoRA, compressed if the settings say so."""
    schedule = job.settings.method.schedule
    chain.finish(final_rank=schedule.final_rank if isinstance(schedule, ChainSchedule) else None)
