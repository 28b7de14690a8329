"""What is seen while a run trains, and that looking changes nothing."""

from __future__ import annotations

import pytest

from rankwise.training.folder import RunFolder
from rankwise.training.probes import during_training as diagnosing
from rankwise.training.run import train_run
from rankwise.training.scoring import trained_model

LOOPS = pytest.mark.parametrize("loop", ["lean", "trainer"])


@LOOPS
@pytest.mark.parametrize("name", ["lora", "rac-lora", "delora"])
def test_looking_changes_no_weight(settings, output, monkeypatch, loop, name):
    states = []
    for budget, most in (("seen", diagnosing.MOST_NUMBERS), ("unseen", 0)):
        monkeypatch.setattr(diagnosing, "MOST_NUMBERS", most)
        method = {"budget": budget, "adapter": {"dropout": 0.2}}
        if name == "rac-lora":
            method["schedule"] = {"every_epochs": 1}
        run = settings(name, loop=loop, method=method)
        record = train_run(run, output)
        assert bool(record["diagnostics"]) == bool(most)
        states.append(trained_model(run, RunFolder(output, run.name)).state_dict())
    for key, value in states[0].items():
        assert value.equal(states[1][key]), key


@LOOPS
def test_it_looks_at_the_first_steps_and_after_each_epoch(settings, output, loop):
    record = train_run(settings("lora", loop=loop), output)
    points = record["diagnostics"]
    assert [point["step"] for point in points] == [0, 1, 2, 3, 5, 8, 10, 13, 15]
    assert [point["step"] for point in points if point["followed"] is not None] == [0, 1, 3, 8]
    assert all(0 < point["followed"] <= 1 for point in points if point["followed"] is not None)
    losses = [point["batch_loss"] for point in points]
    assert losses[5] < losses[0]
    assert losses[6:] == [None, losses[7], None]
    assert points[0]["strength"] == 0
    assert points[-1]["strength"] > points[1]["strength"] > 0
    assert record["seconds"]["diagnose"] > 0


def test_a_fold_changes_the_factors_and_not_the_strength(settings, output):
    method = {"schedule": {"every_epochs": 1}}
    record = train_run(settings("rac-lora", method=method, learning_rate=1e-2), output)
    strengths = {point["step"]: point["strength"] for point in record["diagnostics"]}
    assert record["folds"] == [5, 10]
    # A strength of the new block alone would begin at zero after each fold.
    assert strengths[3] < strengths[5] < strengths[8] < strengths[10] < strengths[15]


def test_full_fine_tuning_follows_everything_and_has_a_strength_too(settings, output):
    points = train_run(settings("full"), output)["diagnostics"]
    assert {point["followed"] for point in points} == {1.0, None}
    assert points[0]["strength"] == 0 < points[-1]["strength"]


def test_an_update_init_begins_at_a_strength_and_follows_more_than_random_rows(settings, output):
    starts = {
        name: train_run(settings(name, r=4, learning_rate=1e-2), output)["diagnostics"][0]
        for name in ("lora", "lora-sb")
    }
    assert starts["lora-sb"]["strength"] > 0
    assert starts["lora-sb"]["followed"] > starts["lora"]["followed"]


def test_a_resumed_run_has_the_points_of_before(settings, output, monkeypatch):
    run = settings("lora", loop="trainer")
    whole = train_run(run, output)["diagnostics"]
    again = settings("lora", loop="trainer", method={"budget": "again"})

    def interrupted(callback, args, state, control, **_):
        if state.global_step == 12:
            raise KeyboardInterrupt
        callback._look(state)

    with monkeypatch.context() as patch:
        patch.setattr(diagnosing.DiagnoserCallback, "on_step_end", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train_run(again, output)
    assert train_run(again, output, resume=True)["diagnostics"] == whole
