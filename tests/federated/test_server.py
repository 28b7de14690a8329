"""Rounds over Flower's messages: what is averaged, what is left out, and going on after a stop."""

from __future__ import annotations

import logging
import re

import pytest
import torch
from flwr.app import ArrayRecord
from safetensors.torch import load_file

from rankwise.core.errors import SettingsError, TrainingError
from rankwise.federated.client import make_client_app
from rankwise.federated.local import Participant, shares
from rankwise.federated.server import Server, sample
from rankwise.tasks.digits import DigitsTask
from rankwise.training.records import FederationRecord
from rankwise.training.settings.federated import FederatedSettings
from tests.federated.local_grid import LocalGrid


def changed(change):
    """A fault: what ``change`` makes of the tensors of a reply."""

    def fault(reply):
        tensors = reply.content.array_records["update"].to_torch_state_dict()
        made = {name: change(each) for name, each in tensors.items()}
        reply.content["update"] = ArrayRecord.from_torch_state_dict(made)

    return fault


def fact(name, value):
    """A fault: another value of a fact of the reply."""

    def fault(reply):
        reply.content.metric_records["facts"][name] = value

    return fault


def federate(plan, folder, cache, faults=None):
    grid = LocalGrid(make_client_app(plan, cache), plan.federated.clients, faults)
    return Server(plan, folder, cache).run(grid), grid


def rounds_but_for(record, *names):
    """The rounds of a record, without what differs from one time to another."""
    return [each.model_dump(exclude={"seconds", *names}) for each in record.rounds]


@pytest.mark.parametrize("method", ["rac-lora", "lora-sb", "lora", "full"])
def test_each_strategy_learns_and_says_how_far_its_average_is_off(plan_of, cache, tmp_path, method):
    record, _ = federate(plan_of(method, r=5, clients=3, rounds=3), tmp_path / "run", cache)
    assert [each.number for each in record.rounds] == [0, 1, 2, 3]
    assert record.rounds[-1].loss < record.rounds[0].loss
    assert record.score_validation == record.rounds[-1].score
    off = [each.distance for each in record.rounds[1:]]
    assert min(off) > 1e-3 if method == "lora" else max(off) < 1e-5
    assert FederationRecord.read(tmp_path / "run" / "record.json") == record
    assert (tmp_path / "run" / "adapter").is_dir()


def test_bytes_are_those_of_what_trains_and_of_what_is_new(plan_of, cache, tmp_path):
    record, _ = federate(plan_of("rac-lora", r=2, clients=3, rounds=3), tmp_path, cache)
    factor = 2 * (64 + 64 + 64) * 4  # A of three layers of 64 inputs, in float32
    rounds = record.rounds[1:]
    assert [each.bytes_up for each in rounds] == [3 * factor] * 3
    # Before the first round a seed is all there is; then it is one mean a round.
    assert [each.bytes_down for each in rounds] == [24, 3 * factor + 24, 3 * factor + 24]


def test_the_frozen_pair_is_sent_once(plan_of, cache, tmp_path):
    record, _ = federate(plan_of("lora-sb", r=5, clients=2, rounds=2), tmp_path, cache)
    core, pair = 3 * 25 * 4, 5 * (5 * 64 + 5) * 4
    first, second = record.rounds[1:]
    assert record.rounds[0].bytes_up == core + pair  # the first client made the start
    assert first.bytes_down == 2 * (core + pair + 8)
    assert second.bytes_down == 2 * (core + 8)
    assert second.bytes_up == 2 * core


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("fails", "it failed: the power went out"),
        ("silent", "no answer in time"),
        ("gone", "it failed: Error: Node Unavailable"),
        (changed(lambda each: each * torch.nan), "is not finite"),
        (changed(lambda each: each[:1]), r"must be .* of shape .* got"),
        (changed(lambda each: each.double()), "got torch.float64"),
        (fact("round", 1), "of round 1, not of round 2"),
        (fact("examples", 0), "it counts 0 examples"),
        (fact("client", 2), "it calls itself client 2"),
        (lambda reply: reply.content.pop("update"), "cannot be read"),
    ],
)
def test_a_client_that_cannot_be_averaged_is_left_out_and_named(
    plan_of, cache, tmp_path, caplog, fault, reason
):
    plan = plan_of("rac-lora", clients=3, rounds=3, timeout_seconds=0.2)
    with caplog.at_level(logging.WARNING, "rankwise.federated"):
        record, _ = federate(plan, tmp_path, cache, {(1, 2): fault})
    second, third = record.rounds[2:]
    assert second.clients == (0, 2)
    assert third.clients == (0, 1, 2)  # it is sent all that it may lack, and is back
    assert pytest.approx(0, abs=1e-5) == third.distance
    (told,) = [each.getMessage() for each in caplog.records]
    assert told.startswith("round 2: client 1 is left out: ")
    assert re.search(reason, second.left_out[1])


def test_a_run_without_enough_clients_stops_and_goes_on_where_it_stood(plan_of, cache, tmp_path):
    plan = plan_of("rac-lora", clients=3, rounds=4, min_clients=2, timeout_seconds=0.2)
    whole, _ = federate(plan, tmp_path / "whole", cache)
    faults = {(0, 3): "fails", (2, 3): "silent"}
    with pytest.raises(TrainingError, match=r"round 3: 1 clients .* at least 2 .* --resume"):
        federate(plan, tmp_path / "stopped", cache, faults)
    assert [file.name for file in (tmp_path / "stopped").glob("state-*")] == ["state-2.safetensors"]
    resumed, _ = federate(plan, tmp_path / "stopped", cache)
    ours, theirs = (
        load_file(tmp_path / name / "state-4.safetensors") for name in ("stopped", "whole")
    )
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert resumed.score_test == whole.score_test
    # After the stop everything was sent again.
    assert rounds_but_for(resumed, "bytes_down") == rounds_but_for(whole, "bytes_down")


def test_a_folder_of_other_settings_is_refused(plan_of, cache, tmp_path):
    federate(plan_of("lora", clients=2, rounds=1), tmp_path, cache)
    with pytest.raises(SettingsError, match="other settings"):
        federate(plan_of("lora", clients=2, rounds=1, alpha=9.0), tmp_path, cache)


def test_a_client_of_another_plan_takes_no_part(plan_of, cache, tmp_path, caplog):
    plan = plan_of("lora", clients=2, rounds=1, timeout_seconds=0.01)
    grid = LocalGrid(make_client_app(plan_of("lora", clients=2, alpha=9.0), cache), 2)
    with caplog.at_level(logging.WARNING), pytest.raises(TrainingError, match="0 clients"):
        Server(plan, tmp_path, cache).run(grid)
    assert "the server follows another plan" in caplog.text


def test_a_client_that_lost_its_memory_says_so_and_is_sent_everything(plan_of, cache, tmp_path):
    plan = plan_of("rac-lora", clients=2, rounds=4, min_clients=1)
    grid = LocalGrid(make_client_app(plan, cache), 2)
    grid.faults[0, 2] = lambda _: grid.contexts[100].state.clear()
    record = Server(plan, tmp_path, cache).run(grid)
    third, fourth = record.rounds[3:]
    assert third.clients == (1,)
    assert "what was sent is newer than stamp 2, known is 0" in third.left_out[0]
    assert fourth.clients == (0, 1)


def test_clients_are_sampled_by_seed_and_round():
    federated = FederatedSettings(clients=10, fraction=0.3)
    drawn = [tuple(sample(federated, number, seed=1)) for number in range(20)]
    assert {len(set(each)) for each in drawn} == {3}
    assert len(set(drawn)) > 10
    assert drawn == [tuple(sample(federated, number, seed=1)) for number in range(20)]


def test_all_rows_have_a_client():
    rows = DigitsTask().splits().train
    parts = shares(rows, FederatedSettings(clients=4), seed=0)
    assert sorted(row for part in parts for row in part.tolist()) == list(range(len(rows)))


def test_a_machine_with_rows_of_its_own_takes_them_all(plan_of, cache):
    participant = Participant(plan_of("lora", clients=3, split="own"), cache, client=1)
    assert len(participant.job.splits.train) == len(DigitsTask().splits().train)
