"""The server app: it samples clients, averages what they send, applies it and scores the result.

The state on disk is that of the last whole round, so a run that stops for want of clients, or is
killed, goes on from there.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from rankwise.core.seeds import derive_seed
from rankwise.evaluation.scores import evaluate
from rankwise.federated.clients import SEED_BYTES, Clients
from rankwise.federated.exchange import (
    check_enough,
    count_bytes,
    distance,
    weighted_mean,
    weights_of,
)
from rankwise.federated.local import Participant
from rankwise.federated.messages import Update
from rankwise.federated.progress import Progress
from rankwise.training.records import FederationRecord, Round
from rankwise.training.saving import save_trained
from rankwise.training.settings.federated import FederatedSettings
from rankwise.training.settings.federation_plan import Plan


def make_server_app(plan: Plan, folder: Path, cache: Path) -> ServerApp:
    """Return the server app of a plan, which goes on with what ``folder`` holds of it.

    Args:
        plan: What server and clients agree on.
        folder: Where the state and the record are written.
        cache: Where the base model is kept.
    """
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:  # noqa: ARG001 (Flower's form)
        Server(plan, folder, cache).run(grid)

    return app


class Server:
    """One federation, from where its folder stands to its last round."""

    def __init__(self, plan: Plan, folder: Path, cache: Path) -> None:
        self._plan = plan
        self._participant = Participant(plan, cache)
        self._strategy = self._participant.strategy
        self._progress = Progress(folder, plan)

    def run(self, grid: Grid) -> FederationRecord:
        """Perform the rounds that are left, read test once, and return the record.

        Raises:
            TrainingError: Too few clients are left; the state of the last whole round is saved.
            SettingsError: The folder holds a federation with other settings.
        """
        progress = self._progress
        if progress.is_begun:
            progress.load()
        clients = Clients(grid, self._plan)
        clients.await_all()
        if not progress.rounds:
            self._begin(clients)
        done = progress.rounds[-1].number
        self._strategy.enter(progress.state.tensors, done + 1)
        for number in range(done + 1, self._plan.federated.rounds + 1):
            clients.greet()
            progress.rounds.append(self._round(clients, number))
            progress.save()
        return self._finish()

    def _begin(self, clients: Clients) -> None:
        began = time.monotonic()
        progress, start = self._progress, self._strategy.start_entries()
        is_sent = self._participant.needs_rows_to_start
        if is_sent:
            start = clients.make_start(start)
        progress.state.put(start, 1)
        self._strategy.enter(progress.state.tensors, 1)
        up, down = (count_bytes(start), SEED_BYTES) if is_sent else (0, 0)
        progress.rounds.append(self._row(0, began, bytes_up=up, bytes_down=down))
        progress.save()

    def _round(self, clients: Clients, number: int) -> Round:
        began = time.monotonic()
        federated, state = self._plan.federated, self._progress.state
        sampled = sample(federated, number, seed=self._plan.run.seed)
        answers = clients.train(sampled, number, state, self._strategy.trained())
        check_enough(len(answers.updates), needed=federated.min_clients, round_number=number)
        off = self._apply(answers.updates, number)
        return self._row(
            number,
            began,
            clients=tuple(update.client for update in answers.updates),
            left_out=answers.left_out,
            bytes_up=answers.bytes_up,
            bytes_down=answers.bytes_down,
            distance=off,
        )

    def _apply(self, updates: Sequence[Update], number: int) -> float:
        """Average the updates and go to the next round; return how far off the average is."""
        strategy, state = self._strategy, self._progress.state
        weights = weights_of([update.examples for update in updates])
        uploads = [update.tensors for update in updates]
        mean = weighted_mean(uploads, weights)
        changes = [strategy.changes(upload) for upload in uploads]
        off = distance(changes, weights, strategy.changes(mean))
        state.put(strategy.entries(mean, number), number + 1)
        strategy.enter(state.tensors, number + 1)
        return off

    def _row(self, number: int, began: float, **facts: Any) -> Round:
        result = self._participant.job.validate()
        seconds = time.monotonic() - began
        return Round(number=number, score=result.score, loss=result.loss, seconds=seconds, **facts)

    def _finish(self) -> FederationRecord:
        job, progress = self._participant.job, self._progress
        test = evaluate(job.model, job.splits.test, job.task)
        record = FederationRecord(
            plan=self._plan,
            digest=self._plan.digest,
            rounds=tuple(progress.rounds),
            method=self._plan.run.method.title,
            metric=job.task.metrics[0],
            trained_numbers=sum(each.numel() for each in self._strategy.trained().values()),
            score_validation=progress.rounds[-1].score,
            score_test=test.score,
        )
        self._strategy.finish()
        save_trained(job.model, progress.folder / "adapter")
        record.write(progress.record)
        return record


def sample(federated: FederatedSettings, number: int, *, seed: int) -> list[int]:
    """Return the clients of a round, in order: the same for the same seed and round."""
    generator = torch.Generator().manual_seed(derive_seed(seed, "sample", number))
    return sorted(
        torch.randperm(federated.clients, generator=generator)[: federated.sampled].tolist()
    )
