"""The same rounds in Flower's own simulation, whose clients are processes."""

from __future__ import annotations

import signal

import pytest
from flwr.supercore import telemetry

from rankwise.federated.progress import Progress
from rankwise.federated.simulation import simulate
from tests.federated.broken_clients import second_fails_in_first_round
from tests.federated.test_server import federate, rounds_but_for

pytestmark = [
    pytest.mark.processes,
    # Ray leaves it to the garbage collector to close its files and to wait for its processes.
    pytest.mark.filterwarnings("ignore:.*unclosed file"),
    pytest.mark.filterwarnings("ignore:subprocess .* is still running"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def test_flower_reports_its_use_to_nobody():
    assert telemetry.FLWR_TELEMETRY_ENABLED == "0"


def test_simulated_clients_do_what_clients_at_hand_do_also_if_one_fails(
    plan_of, cache, tmp_path, monkeypatch
):
    # Else Ray lets its workers wait for whatever runs beside these tests.
    monkeypatch.setenv("RAY_worker_niceness", "0")
    plan = plan_of("rac-lora", clients=3, rounds=2)
    mods = [second_fails_in_first_round]
    heard_by, heard, save = signal.getsignal(signal.SIGTERM), [], Progress.save

    def hear(progress: Progress) -> None:
        heard.append(signal.getsignal(signal.SIGTERM))
        save(progress)

    monkeypatch.setattr(Progress, "save", hear)
    simulated = simulate(plan, tmp_path / "a", cache, workers=1, mods=mods)
    assert heard
    assert {*heard, signal.getsignal(signal.SIGTERM)} == {heard_by}  # and not Ray, all the time
    at_hand, _ = federate(plan, tmp_path / "b", cache, {(1, 1): "fails"})
    first, second = simulated.rounds[1:]
    assert (first.clients, second.clients) == ((0, 2), (0, 1, 2))
    assert first.left_out[1].endswith("the power went out")
    assert rounds_but_for(simulated, "left_out") == rounds_but_for(at_hand, "left_out")
    assert simulated.score_test == at_hand.score_test
