"""One model of a federation: made from its plan, and trained for a round on a client's rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from rankwise.core.seeds import derive_seed
from rankwise.evaluation.scores import mean_loss
from rankwise.federated.split import Share, split_by_label, split_evenly
from rankwise.federated.strategies import Strategy, build_strategy
from rankwise.tasks.splits import Rows, Splits
from rankwise.training.folder import RunFolder
from rankwise.training.initialization import initialize_adapter
from rankwise.training.job import Job, prepare_job
from rankwise.training.loops.optimization import build_optimizer
from rankwise.training.loops.results import finite_loss_required
from rankwise.training.loops.step import take_step
from rankwise.training.settings.federated import FederatedSettings
from rankwise.training.settings.federation_plan import Plan
from rankwise.training.settings.method import RandomInit


class Participant:
    """The server (without ``client``) or the client of that number, with its model and rows.

    The model is fresh: :meth:`Strategy.enter` brings it to a round.

    Args:
        plan: What server and clients agree on.
        cache: Where the base model is kept.
        client: Whose training rows are taken; None takes all, for the server's evaluation.
    """

    def __init__(self, plan: Plan, cache: Path, *, client: int | None = None) -> None:
        self.plan = plan
        self.folder = RunFolder.below(cache, plan.run.name)
        job = prepare_job(plan.run, self.folder.base)
        if client is not None:
            seed = plan.run.seed
            splits = with_rows_of(job.splits, plan.federated, client=client, seed=seed)
            job = replace(job, splits=splits)
        self.job = job
        self.strategy: Strategy = build_strategy(job.model, plan.run.method, seed=plan.run.seed)

    @property
    def needs_rows_to_start(self) -> bool:
        """Whether the method's start is made from rows, so that one client has to make it."""
        return not isinstance(self.plan.run.method.init, RandomInit)

    def begin(self) -> dict[str, Tensor]:
        """Initialise the adapter from this client's rows, and return what others need of it."""
        initialize_adapter(self.job, self.folder)
        return self.strategy.start_entries()

    def loss(self) -> float:
        """Return the loss on validation."""
        return mean_loss(self.job.model, self.job.splits.validation, self.job.task)

    def loss_with(self, trained: Mapping[str, Tensor]) -> float:
        """Return what the loss on validation would be if ``trained`` had been trained."""
        with self.strategy.holding(trained):
            return self.loss()

    def train(self, round_number: int) -> dict[str, Tensor]:
        """Train for a round, from the state entered, and return what trains.

        Raises:
            TrainingError: The loss is not finite.
        """
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            torch.manual_seed(derive_seed(self.plan.run.seed, "training", round_number))
            train_locally(self.job, self.plan.federated, round_number)
        return self.strategy.trained()


def train_locally(job: Job, federated: FederatedSettings, round_number: int) -> None:
    """Train the model of ``job`` for the epochs or steps of a round, with a fresh optimizer.

    Raises:
        TrainingError: The loss is not finite.
    """
    optimizer = build_optimizer(job.model, job.settings)
    job.model.train()
    with finite_loss_required(job.model):
        for index in _batches(job, federated, round_number):
            take_step(job, optimizer, index)


def with_rows_of(splits: Splits, federated: FederatedSettings, *, client: int, seed: int) -> Splits:
    """Return ``splits`` with the training rows of one client alone."""
    if federated.split == "own":
        return splits
    index = shares(splits.train, federated, seed=seed)[client]
    return replace(splits, train=Share(splits.train, index))


def shares(rows: Rows, federated: FederatedSettings, *, seed: int) -> list[Tensor]:
    """Return the training rows of each client, as the settings split them."""
    if federated.split == "even":
        return split_evenly(len(rows), clients=federated.clients, seed=seed)
    labels = rows.take(slice(None))["labels"]
    return split_by_label(labels, clients=federated.clients, alpha=federated.alpha, seed=seed)


def _batches(job: Job, federated: FederatedSettings, round_number: int) -> Iterator[Tensor]:
    """Yield the rows of each step of a round; a round goes on where the last one ended."""
    size = job.settings.training.batch_size
    if federated.local_steps is None:
        for epoch in range(federated.local_epochs):
            number = (round_number - 1) * federated.local_epochs + epoch
            yield from job.order(number).split(size)
        return
    for step in range(federated.local_steps):
        number = (round_number - 1) * federated.local_steps + step
        epoch, position = divmod(number, -(-len(job.splits.train) // size))
        yield job.order(epoch).split(size)[position]
