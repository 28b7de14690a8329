"""Rounds over Flower's messages: what is averaged, what is left out, and going on after a stop."""

from __future__ import annotations

import logging
import re

import pytest
import torch
from flwr.app import ArrayRecord
from safetensors.torch import load_file

from rankwise.core.errors import SettingsError, TrainingError
from rankwise.core.locks import sole_use
from rankwise.federated import acceptance
from rankwise.federated.client import make_client_app
from rankwise.federated.local import Participant, shares
from rankwise.federated.messages import BEGIN
from rankwise.federated.server import Server, sample
from rankwise.federated.table import remarks
from rankwise.methods.adapters.directory import read_config
from rankwise.tasks.digits import DigitsTask
from rankwise.training.federation_records import FederationRecord
from rankwise.training.settings.federated import FederatedSettings
from tests.federated.local_grid import LocalGrid

pytestmark = pytest.mark.runs


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
    if method != "full":
        names = read_config(tmp_path / "run" / "adapter")["target_modules"]
        assert names == sorted(names)


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
        ("silent", r"no answer within 0.2 s \(federated.timeout_seconds\)"),
        ("gone", "it failed: Error: Node Unavailable"),
        (changed(lambda each: each * torch.nan), "is not finite"),
        (changed(lambda each: each[:1]), r"must be .* of shape .* got"),
        (changed(lambda each: each.double()), "got torch.float64"),
        (fact("round", 1), "of round 1, not of round 2"),
        (fact("examples", 0), "it counts 0 examples"),
        (fact("examples", 2**62), r"it counts 4611686018427387904 examples, and counted \d+ when"),
        (fact("examples", 7.0), "expected an integer, got 7.0"),
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
    plan = plan_of("lora", clients=2, rounds=1, join_seconds=0.01)
    grid = LocalGrid(make_client_app(plan_of("lora", clients=2, alpha=9.0), cache), 2)
    with caplog.at_level(logging.WARNING), pytest.raises(TrainingError, match="0 of 2 clients"):
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


@pytest.mark.parametrize("method", ["rac-lora", "lora-sb", "lora", "full"])
@pytest.mark.parametrize("wrong", [1e30, 3e38])
def test_a_finite_update_that_ruins_the_mean_is_left_out_and_its_norm_is_told(
    plan_of, cache, tmp_path, method, wrong
):
    plan = plan_of(method, r=2, clients=3, rounds=2)
    faults = {(1, 1): changed(lambda each: torch.full_like(each, wrong))}
    record, _ = federate(plan, tmp_path / "a", cache, faults)
    without, _ = federate(plan, tmp_path / "b", cache, {(1, 1): "fails"})
    first = record.rounds[1]
    assert first.clients == (0, 2)
    start = {"lora-sb": 3}.get(method, 2)  # its init begins with a step
    assert re.search(
        rf"under its update alone the validation loss would go from {start}\.\d+ to \S+; its "
        r"update has a norm of \S+e\+\d\d, and the median of the others' is \d",
        first.left_out[1],
    )
    assert record.score_test == without.score_test
    # It counts as sent, and the client that sent it knows what it knew.
    drop = ("left_out", "norms", "bytes_up", "bytes_down")
    assert rounds_but_for(record, *drop) == rounds_but_for(without, *drop)


def test_a_ruinous_update_that_a_robust_aggregate_bears_stands_out(plan_of, cache, tmp_path):
    plan = plan_of("lora", clients=5, rounds=1, aggregation="median", min_clients=3)
    faults = {(1, 1): changed(lambda each: torch.full_like(each, 1e30))}
    record, _ = federate(plan, tmp_path, cache, faults)
    assert record.rounds[1].clients == (0, 1, 2, 3, 4)
    assert record.rounds[1].loss < 2 * record.rounds[0].loss
    (told,) = remarks([record])
    assert told.startswith("fed-it, round 1: client 1 stood out: its update has a norm of ")


def test_a_loss_that_explodes_under_no_update_alone_stops_the_run(
    plan_of, cache, tmp_path, monkeypatch
):
    plan = plan_of("lora", clients=2, rounds=2)
    ruin = lambda uploads, *_: {name: each + 1e30 for name, each in uploads[0].items()}  # noqa: E731
    monkeypatch.setattr(acceptance, "aggregate", ruin)
    told = r"round 1: the validation loss would go from .* \(norms by client: 0: .*, 1: .*\)"
    with pytest.raises(TrainingError, match=told):
        federate(plan, tmp_path, cache)


def test_a_start_that_ruins_the_loss_is_left_out_and_another_client_makes_it(
    plan_of, cache, tmp_path
):
    plan = plan_of("lora-sb", r=5, clients=3, rounds=1)

    def ruin(reply):
        if "update" in reply.content and len(reply.content.array_records["update"]):
            changed(lambda each: torch.full_like(each, 1e30))(reply)

    record, grid = federate(plan, tmp_path, cache, {(0, 0): ruin})
    start, _ = record.rounds
    assert "with its start the validation loss goes from" in start.left_out[0]
    assert [node for node, _, each in grid.sent if each.metadata.message_type == BEGIN] == [0, 1]


def test_counts_of_examples_are_recorded_as_they_were_first_named(plan_of, cache, tmp_path):
    record, _ = federate(plan_of("lora", clients=3, rounds=1), tmp_path, cache)
    assert sum(record.examples.values()) == 537
    assert sorted(record.examples) == [0, 1, 2]


def test_a_count_of_examples_holds_over_a_stop(plan_of, cache, tmp_path):
    plan = plan_of("lora", clients=2, rounds=2, min_clients=2, timeout_seconds=0.2)
    with pytest.raises(TrainingError, match="round 2"):
        federate(plan, tmp_path, cache, {(0, 2): "fails"})
    brief = plan_of("lora", clients=2, rounds=2, min_clients=2, join_seconds=0.01)
    with pytest.raises(TrainingError, match="1 of 2 clients joined"):
        federate(brief, tmp_path, cache, {(1, 0): fact("examples", 9)})


@pytest.mark.parametrize("number", [3, -1, 2**62])
def test_a_node_that_calls_itself_a_client_that_there_is_not_takes_no_part(
    plan_of, cache, tmp_path, caplog, number
):
    plan = plan_of("lora", clients=3, rounds=1, join_seconds=0.01)
    with caplog.at_level(logging.WARNING, "rankwise.federated"):
        record, _ = federate(plan, tmp_path, cache, {(1, 0): fact("client", number)})
    assert f"it calls itself client {number}, and the clients are 0 to 2" in caplog.text
    assert record.rounds[1].clients == (0, 2)
    assert record.rounds[1].left_out == {1: "it is not there"}


def test_of_two_nodes_with_one_partition_the_first_takes_part_and_the_other_is_named(
    plan_of, cache, tmp_path, caplog
):
    plan = plan_of("lora", clients=2, rounds=4)
    grid = LocalGrid(make_client_app(plan, cache), [0, 1, 1])
    grid.faults[1, 3] = lambda _: grid.contexts.pop(101)  # the first goes before round 4
    with caplog.at_level(logging.WARNING, "rankwise.federated"):
        record = Server(plan, tmp_path, cache).run(grid)
    assert [each.clients for each in record.rounds[1:]] == [(0, 1)] * 4
    nodes = [node for node, number, _ in grid.sent if number > 0]
    assert nodes == [0, 1] * 3 + [0, 2]
    (told,) = [each.getMessage() for each in caplog.records]
    assert told == (
        "node 102 takes no part while node 101 is there: both call themselves client 1; give each "
        "SuperNode a partition-id of its own"
    )


def test_a_first_answer_may_take_longer_than_a_round(plan_of, cache, tmp_path):
    plan = plan_of("lora", clients=2, rounds=1, timeout_seconds=0.01)
    record, grid = federate(plan, tmp_path, cache, {(1, 0): 5})
    assert record.rounds[1].clients == (0, 1)
    assert [number for node, number, _ in grid.sent if node == 1] == [0, 1]  # it was asked once


def test_a_first_answer_that_comes_rounds_later_still_counts(plan_of, cache, tmp_path):
    plan = plan_of("lora", clients=2, rounds=3, join_seconds=0.01)
    record, _ = federate(plan, tmp_path, cache, {(1, 0): 3})
    assert record.rounds[1].left_out == {1: "it is not there"}
    assert record.rounds[3].clients == (0, 1)


def test_a_start_without_enough_clients_says_who_is_there(plan_of, cache, tmp_path):
    plan = plan_of("lora", clients=3, min_clients=2, rounds=1, join_seconds=0.01)
    told = r"1 of 3 clients joined within 0\.01 s .*, 1 more are there and have not answered yet"
    with pytest.raises(TrainingError, match=told):
        federate(plan, tmp_path, cache, {(1, 0): "fails", (2, 0): "silent"})


def test_a_node_that_was_gone_when_it_was_greeted_is_greeted_again(plan_of, cache, tmp_path):
    plan = plan_of("lora", clients=2, rounds=1)
    grid = LocalGrid(make_client_app(plan, cache), 2)
    grid.faults[1, 0] = "gone"
    grid.faults[0, 0] = lambda _: grid.faults.pop((1, 0), None)
    grid.contexts = dict(reversed(grid.contexts.items()))
    record = Server(plan, tmp_path, cache).run(grid)
    assert record.rounds[1].clients == (0, 1)


def test_the_words_of_a_stranger_are_one_line_that_is_shown(plan_of, cache, tmp_path, caplog):
    plan = plan_of("lora", clients=3, rounds=1)

    def misname(reply):
        tensors = reply.content.array_records["update"].to_torch_state_dict()
        named = {f"\x1b[2J\n[/red]{name}": each for name, each in tensors.items()}
        reply.content["update"] = ArrayRecord.from_torch_state_dict(named)

    with caplog.at_level(logging.WARNING, "rankwise.federated"):
        record, _ = federate(plan, tmp_path, cache, {(1, 1): misname})
    assert record.rounds[1].left_out[1].isprintable()
    assert r"\x1b[2J [/red]" in record.rounds[1].left_out[1]
    assert all(each.getMessage().isprintable() for each in caplog.records)
    assert r"\x1b[2J [/red]" in remarks([record])[0]


def test_a_folder_serves_one_server_at_a_time(plan_of, cache, tmp_path):
    with sole_use(tmp_path), pytest.raises(SettingsError, match="is at work"):
        federate(plan_of("lora", clients=2, rounds=1), tmp_path, cache)


def test_what_is_done_but_for_its_record_needs_no_client(plan_of, cache, tmp_path):
    plan = plan_of("lora", clients=2, rounds=1)
    record, _ = federate(plan, tmp_path, cache)
    (tmp_path / "record.json").unlink()
    again, grid = federate(plan, tmp_path, cache)
    assert again == record
    assert grid.sent == []


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
