"""What is seen while a run trains, and that looking changes nothing."""

from __future__ import annotations

import contextlib

import pytest

from rankwise.functional.product import Product
from rankwise.training.finished import FinishedRun
from rankwise.training.job import prepare_job
from rankwise.training.loops.chains import build_chain
from rankwise.training.probes import during_training
from rankwise.training.probes.layers import adapted_layers_of
from rankwise.training.run import train_run

pytestmark = pytest.mark.runs

LOOPS = pytest.mark.parametrize("loop", ["lean", "trainer"])


@LOOPS
@pytest.mark.parametrize("name", ["lora", "rac-lora", "delora"])
def test_looking_changes_no_weight_and_is_left_out_where_it_is_not_wanted(
    settings, output, loop, name
):
    method = {"adapter": {"dropout": 0.2}}
    if name == "rac-lora":
        method["schedule"] = {"every_epochs": 1}
    states, names = [], []
    for is_seen in (True, False):
        run = settings(name, loop=loop, method=method, diagnostics=is_seen)
        record = train_run(run, output / str(is_seen))
        assert bool(record.diagnostics) is is_seen
        names.append(run.name)
        states.append(
            FinishedRun.below(output / str(is_seen), run.name).trained_model().state_dict()
        )
    assert names[0] == names[1]
    for key, value in states[0].items():
        assert value.equal(states[1][key]), key


@LOOPS
def test_it_measures_the_first_steps_and_after_each_epoch(settings, output, loop):
    record = train_run(settings("lora", loop=loop), output)
    points = record.diagnostics
    assert [point.step for point in points] == [0, 1, 2, 3, 5, 8, 10, 13, 15]
    assert [point.step for point in points if point.captured_share is not None] == [0, 1, 3, 8]
    assert all(
        0 < point.captured_share <= 1 for point in points if point.captured_share is not None
    )
    losses = [point.batch_loss for point in points]
    assert losses[5] < losses[0]
    assert losses[6:] == [None, losses[7], None]
    assert points[0].relative_norm == 0
    assert points[-1].relative_norm > points[1].relative_norm > 0
    assert record.seconds.diagnose > 0


def test_a_fold_changes_the_factors_and_not_the_relative_norm(settings, output):
    method = {"schedule": {"every_epochs": 1}}
    record = train_run(settings("rac-lora", method=method, learning_rate=1e-2), output)
    norms = {point.step: point.relative_norm for point in record.diagnostics}
    assert record.folds == (5, 10)
    # A norm of the new block alone would begin at zero after each fold.
    assert norms[3] < norms[5] < norms[8] < norms[10] < norms[15]


def test_full_fine_tuning_captures_everything_and_has_a_relative_norm_too(settings, output):
    points = train_run(settings("full"), output).diagnostics
    assert {point.captured_share for point in points} == {1.0, None}
    assert points[0].relative_norm == 0 < points[-1].relative_norm


def test_an_update_init_begins_at_a_norm_and_captures_more_than_random_rows(settings, output):
    starts = {
        name: train_run(settings(name, r=4, learning_rate=1e-2), output).diagnostics[0]
        for name in ("lora", "lora-sb")
    }
    assert starts["lora-sb"].relative_norm > 0
    assert starts["lora-sb"].captured_share > starts["lora"].captured_share


def test_a_resumed_run_has_the_points_of_before(settings, output, monkeypatch):
    run = settings("lora", loop="trainer")
    whole = train_run(run, output).diagnostics
    again = settings("lora", loop="trainer", method={"budget": "again"})

    def interrupted(callback, args, state, control, **_):
        if state.global_step == 12:
            raise KeyboardInterrupt
        callback._measure(state)

    with monkeypatch.context() as patch:
        patch.setattr(during_training.DiagnosticsCallback, "on_step_end", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train_run(again, output)
    assert train_run(again, output, resume=True).diagnostics == whole


@pytest.mark.parametrize("name", ["lora", "rac-lora", "delora", "lora-xs", "full"])
def test_what_is_a_product_is_watched_at_any_size(settings, output, monkeypatch, name):
    monkeypatch.setattr(during_training, "MOST_WEIGHTS", 0)
    points = train_run(settings(name), output).diagnostics
    assert points[0].captured_share is not None
    assert points[-1].relative_norm > 0


def test_other_changes_are_watched_up_to_a_size(settings, output, monkeypatch):
    dora = {"adapter": {"peft_type": "LORA", "options": {"use_dora": True}}}
    assert train_run(settings("peft", method=dora), output).diagnostics
    monkeypatch.setattr(during_training, "MOST_WEIGHTS", 0)
    assert not train_run(settings("peft", method=dora, seed=1), output).diagnostics


@pytest.mark.parametrize("name", ["lora", "rac-lora", "delora", "lora-xs"])
def test_no_matrix_of_the_size_of_a_weight_is_formed(settings, output, name):
    job = prepare_job(settings(name), output / "base")
    with build_chain(job) or contextlib.nullcontext():
        for layer in adapted_layers_of(job.model).values():
            change = layer.change()
            assert isinstance(change, Product)
            assert change.left.shape[1] <= min(layer.shape)
