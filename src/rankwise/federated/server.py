"""The server app: it samples clients, aggregates what they send, applies it and scores the result.

The state on disk is that of the last whole round, so a run that stops for want of clients, or is
killed, goes on from there.
"""

from __future__ import annotations

import logging
import math
import time
from pathlib import Path
from typing import Any

import torch
from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from rankwise.core import runtime
from rankwise.core.errors import TrainingError
from rankwise.core.locks import sole_use
from rankwise.core.seeds import derive_seed
from rankwise.evaluation.scores import evaluate
from rankwise.federated.acceptance import Accepted, accept, is_sound, standing_out
from rankwise.federated.aggregation import distance, weights_of
from rankwise.federated.clients import SEED_BYTES, Clients
from rankwise.federated.exchange import Tensors, count_bytes
from rankwise.federated.local import Participant
from rankwise.federated.messages import Refusal
from rankwise.federated.progress import Progress
from rankwise.training.federation_records import FederationRecord, Round
from rankwise.training.saving import save_trained
from rankwise.training.settings.federated import FederatedSettings
from rankwise.training.settings.federation_plan import Plan

logger = logging.getLogger(__name__)


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
            AdapterError: What the folder holds is damaged.
            SettingsError: It holds a federation with other settings, or another command is at work
                there.
            TrainingError: Too few clients are left; the state of the last whole round is saved.
        """
        with sole_use(self._progress.folder):
            return self._run(grid)

    def _run(self, grid: Grid) -> FederationRecord:
        progress, rounds = self._progress, self._plan.federated.rounds
        if progress.is_begun:
            progress.load(like=self._strategy.entries_after)
        clients = Clients(grid, self._plan, examples=progress.examples)
        if len(progress.rounds) <= rounds:
            clients.await_all()
        if not progress.rounds:
            self._begin(clients)
        done = progress.rounds[-1].number
        self._strategy.enter(progress.state.tensors, done + 1)
        for number in range(done + 1, rounds + 1):
            clients.greet()
            progress.rounds.append(self._round(clients, number))
            progress.examples = clients.examples
            progress.save()
        return self._finish()

    def _begin(self, clients: Clients) -> None:
        began = time.monotonic()
        progress, start = self._progress, self._strategy.start_entries()
        facts: dict[str, Any] = {}
        if self._participant.needs_rows_to_start:
            start, left_out = self._made_start(clients, start)
            asked = 1 + len(left_out)
            facts = {"bytes_up": count_bytes(start), "bytes_down": asked * SEED_BYTES}
            facts["left_out"] = left_out
        progress.state.put(start, 1)
        self._strategy.enter(progress.state.tensors, 1)
        progress.rounds.append(self._row(0, began, **facts))
        progress.examples = clients.examples
        progress.save()

    def _made_start(self, clients: Clients, like: Tensors) -> tuple[Tensors, dict[int, str]]:
        """Return the start of the first client that makes one to begin with, and who made none."""
        before, left_out = self._participant.loss(), dict[int, str]()
        for client, answer in clients.starts(like):
            if isinstance(answer, Refusal):
                reason = answer.reason
            else:
                self._strategy.enter(answer.tensors, 1)
                if is_sound(loss := self._participant.loss(), before):
                    return answer.tensors, left_out
                reason = f"with its start the validation loss goes from {before:.4g} to {loss:.4g}"
            left_out[client] = reason
            logger.warning("client %d makes no start: %s", client, reason)
        told = "; ".join(f"client {client}: {reason}" for client, reason in left_out.items())
        raise TrainingError(f"no client could make the start from its rows: {told}")

    def _round(self, clients: Clients, number: int) -> Round:
        began, federated = time.monotonic(), self._plan.federated
        strategy, state = self._strategy, self._progress.state
        sampled = sample(federated, number, seed=self._plan.run.seed)
        answers = clients.train(sampled, number, state, strategy.trained())
        accepted = accept(
            self._participant,
            answers.updates,
            round_number=number,
            loss_before=self._progress.rounds[-1].loss,
        )
        for client, told in standing_out(accepted.norms).items():
            logger.warning("round %d: client %d stands out: %s", number, client, told)
        off = self._distance(accepted)
        state.put(strategy.entries(accepted.tensors, number), number + 1)
        strategy.enter(state.tensors, number + 1)
        return self._row(
            number,
            began,
            clients=tuple(update.client for update in accepted.updates),
            left_out=answers.left_out | accepted.left_out,
            norms=accepted.norms,
            bytes_up=answers.bytes_up,
            bytes_down=answers.bytes_down,
            distance=off,
        )

    def _distance(self, accepted: Accepted) -> float | None:
        """Return how far what is applied is from the mean of the updates."""
        updates = accepted.updates
        weights = weights_of([update.examples for update in updates])
        *each, applied = self._strategy.changes(
            *(update.tensors for update in updates), accepted.tensors
        )
        return distance(each, weights, applied)

    def _row(self, number: int, began: float, **facts: Any) -> Round:
        result = self._participant.job.validate()
        if not math.isfinite(result.loss):
            raise TrainingError(
                f"round {number}: the validation loss is {result.loss}: check the base model, the "
                "data and training.learning_rate"
            )
        seconds = time.monotonic() - began
        return Round(number=number, score=result.score, loss=result.loss, seconds=seconds, **facts)

    def _finish(self) -> FederationRecord:
        job, progress = self._participant.job, self._progress
        test = evaluate(job.model, job.splits.test, job.task)
        record = FederationRecord(
            plan=self._plan,
            digest=self._plan.digest,
            rounds=tuple(progress.rounds),
            examples=progress.examples,
            method=self._plan.run.method.title,
            metric=job.task.metrics[0],
            trained_numbers=sum(each.numel() for each in self._strategy.trained().values()),
            score_validation=progress.rounds[-1].score,
            score_test=test.score,
            versions=runtime.versions(),
            commit=runtime.commit(),
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
