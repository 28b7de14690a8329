"""Which averages are exact, and that a federation of one client is the centralised chain."""

from __future__ import annotations

import pytest
import torch

from rankwise.core.errors import SettingsError, TrainingError
from rankwise.core.seeds import derive_seed
from rankwise.federated.aggregation import distance, weighted_mean, weights_of
from rankwise.federated.exchange import State
from rankwise.federated.local import Participant, train_locally
from rankwise.federated.strategies import build_strategy
from rankwise.methods.chain.chain import Chain
from rankwise.tasks.splits import Splits, TensorSplit
from rankwise.training.adapter import attach_adapter
from rankwise.training.build import build_task
from rankwise.training.loops.optimization import build_optimizer


def in_float64(participant):
    """Turn a participant's model and rows to float64; before any round is entered."""
    participant.job.model.double()
    splits = participant.job.splits
    whole = {
        name: TensorSplit(
            {key: v.double() if v.is_floating_point() else v for key, v in rows.items()}
        )
        for name in ("train", "validation", "test")
        for rows in [getattr(splits, name).take(slice(None))]
    }
    object.__setattr__(participant.job, "splits", Splits(**whole))
    return participant


class Federation:
    """Server and clients in one process, without Flower."""

    def __init__(self, plan, cache):
        numbers = range(plan.federated.clients)
        self.server = in_float64(Participant(plan, cache))
        self.clients = [in_float64(Participant(plan, cache, client=i)) for i in numbers]
        self.state, self.distances = State(), []
        if self.server.needs_rows_to_start:
            self.state.put(self.clients[0].begin(), 1)

    def round(self, number):
        for participant in (self.server, *self.clients):
            participant.strategy.enter(self.state.tensors, number)
        uploads = [client.train(number) for client in self.clients]
        weights = weights_of([len(client.job.splits.train) for client in self.clients])
        mean = weighted_mean(uploads, weights)
        strategy = self.server.strategy
        *changes, applied = strategy.changes(*uploads, mean)
        self.distances.append(distance(changes, weights, applied))
        self.state.put(strategy.entries(mean, number), number + 1)


@pytest.mark.parametrize("method", ["rac-lora", "lora-sb", "full"])
def test_the_mean_of_the_updates_is_what_the_server_applies(plan_of, cache, method):
    federation = Federation(plan_of(method, r=5, clients=3), cache)
    for number in (1, 2, 3):
        federation.round(number)
    assert max(federation.distances) < 1e-12


def test_averaging_both_factors_applies_another_update(plan_of, cache):
    federation = Federation(plan_of("lora", clients=3), cache)
    for number in (1, 2, 3):
        federation.round(number)
    assert min(federation.distances) > 0.01


@pytest.mark.parametrize("side", ["left", "right"])
def test_one_client_with_one_step_is_the_centralised_chain_bit_for_bit(plan_of, cache, side):
    rounds = 4
    plan = plan_of(
        "rac-lora", clients=1, split="even", local_steps=1, method={"schedule": {"side": side}}
    )
    federation = Federation(plan, cache)
    for number in range(1, rounds + 1):
        federation.round(number)
    federation.server.strategy.enter(federation.state.tensors, rounds + 1)

    central = in_float64(Participant(plan, cache, client=0)).job
    model = bare_model(plan, cache)
    chain = Chain(model, side=side, seed=derive_seed(plan.run.seed, "chain"))
    optimizer = build_optimizer(model, plan.run)
    for index in central.order(0).split(plan.run.training.batch_size)[:rounds]:
        model(**central.splits.train.take(index))["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
        chain.fold(optimizer)
    ours = federation.server.job.model.state_dict()
    theirs = model.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def bare_model(plan, cache):
    """The model with its adapter, in float64, and without the chain of a participant."""
    task = build_task(plan.run)
    base = task.base_model(cache / "base")
    return attach_adapter(base, plan.run.method, task=task, seed=plan.run.seed).double()


def test_a_late_client_catches_up_bit_for_bit(plan_of, cache):
    federation = Federation(plan_of("rac-lora", clients=2), cache)
    for number in (1, 2, 3):
        federation.round(number)
    late = in_float64(Participant(federation.server.plan, cache, client=0))
    for participant in (late, federation.server):
        participant.strategy.enter(federation.state.newer_than(0), 4)
    ours, theirs = (each.job.model.state_dict() for each in (late, federation.server))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_changes_leave_the_model_as_it_is(plan_of, cache):
    participant = Participant(plan_of("lora", clients=2), cache, client=0)
    before = {name: each.clone() for name, each in participant.job.model.state_dict().items()}
    trained = {name: each + 1 for name, each in participant.strategy.trained().items()}
    participant.strategy.changes(trained)
    after = participant.job.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_missing_or_passed_round_is_refused(plan_of, cache):
    federation = Federation(plan_of("rac-lora", clients=1), cache)
    with pytest.raises(TrainingError, match="mean of round 1 is missing"):
        federation.server.strategy.enter({}, 2)
    federation.round(1)
    federation.round(2)
    with pytest.raises(TrainingError, match="past round 1"):
        federation.server.strategy.enter({}, 1)


def test_a_local_round_goes_on_with_the_rows_where_the_last_one_ended(plan_of, cache):
    steps, epochs = (
        Participant(plan_of("lora", clients=1, split="even", **choice), cache, client=0)
        for choice in ({"local_steps": 9}, {"local_epochs": 1})
    )
    for participant in (steps, epochs):  # 537 rows in batches of 64 are 9 steps
        train_locally(participant.job, participant.plan.federated, 2)
    ours, theirs = (each.strategy.trained() for each in (steps, epochs))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("name", ["cola", "rac-lora-gradient", "delora", "asymm-lora", "sb-chain"])
def test_methods_without_a_federated_form_are_refused(plan_of, cache, name):
    plan = plan_of(name)
    with pytest.raises(SettingsError, match=r"frozen sketch|no federated form.*rac-lora"):
        build_strategy(bare_model(plan, cache), plan.run.method, seed=0)
