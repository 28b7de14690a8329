"""A run leaves a record from which everything can be told, and a model that scores as it says."""

from __future__ import annotations

import shutil
from functools import partial

import pytest
import torch

from rankwise.core.errors import SettingsError, TrainingError
from rankwise.core.locks import LOCK, sole_use
from rankwise.training import run as run_module
from rankwise.training.finished import FinishedRun
from rankwise.training.folder import RunFolder
from rankwise.training.loops.trainer import JobTrainer
from rankwise.training.records import read_run
from rankwise.training.run import run_and_record, train_run
from rankwise.training.together import run_all_and_record


def test_the_record_holds_settings_versions_costs_and_the_curve(settings, output):
    run = settings("lora")
    record = train_run(run, output)
    assert record == read_run(RunFolder.below(output, run.name).record)
    assert record.run_settings() == run
    assert record.versions["torch"] == torch.__version__
    assert record.seconds.total > record.seconds.train > 0
    assert record.peak_memory_bytes > 0
    assert record.status == "done"
    assert record.score_validation == record.curve[-1].validation_score


@pytest.mark.parametrize(
    ("name", "r", "trained"),
    [
        ("lora", 2, 2 * (64 + 64 + 64 + 64 + 64 + 5)),
        ("rac-lora", 2, 2 * (64 + 64 + 64)),
        ("lora-xs", 2, 3 * 4),
        ("delora", 2, 2 * (64 + 64 + 64 + 64 + 64 + 5) + 3),
        ("full", 2, 64 * 64 + 64 + 64 * 64 + 64 + 5 * 64 + 5),
    ],
)
def test_trainable_parameters_are_those_of_the_formula(settings, output, name, r, trained):
    assert train_run(settings(name, r=r, epochs=1), output).trainable_parameters == trained


def test_the_same_settings_give_the_same_weights_whatever_ran_before(settings, output, tmp_path):
    run = settings("abm-lora", method={"init": {"steps": 3}})
    first = train_run(run, output)
    torch.manual_seed(99)
    second = train_run(run, tmp_path / "elsewhere")
    assert first.curve == second.curve


@pytest.mark.parametrize("loop", ["lean", "trainer"])
def test_dropout_draws_from_the_seed_of_the_run(settings, output, tmp_path, loop):
    run = settings("lora", loop=loop, method={"adapter": {"dropout": 0.5}})
    first = train_run(run, output)
    torch.manual_seed(99)
    state = torch.get_rng_state()
    assert train_run(run, tmp_path / "elsewhere").curve == first.curve
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("loop", ["lean", "trainer"])
def test_patience_ends_a_run_that_no_longer_improves(settings, output, loop):
    run = settings("full", loop=loop, epochs=30, patience=1, learning_rate=0.3)
    curve = train_run(run, output).curve
    assert len(curve) < 31
    assert curve[-1].validation_loss >= min(point.validation_loss for point in curve[:-1])


def test_another_seed_is_another_run(settings, output):
    curves = [train_run(settings("lora", seed=seed), output).curve for seed in (0, 1)]
    assert curves[0] != curves[1]


def test_all_methods_of_a_seed_start_from_the_same_base(settings, output):
    starts = {
        train_run(settings(name), output).curve[0].validation_loss for name in ("full", "lora")
    }
    assert len(starts) == 1


def test_the_reference_of_abm_is_charged_to_it(settings, output):
    run = settings("abm-lora-task", method={"init": {"steps": 3}})
    record = train_run(run, output)
    assert record.init.reference == "adapter"
    assert record.seconds.init > record.init.seconds


def test_a_folder_that_holds_the_run_is_not_overwritten(settings, output):
    train_run(settings("lora"), output)
    with pytest.raises(SettingsError, match="holds this run already: add --resume"):
        train_run(settings("lora"), output)
    assert train_run(settings("lora"), output, resume=True).status == "done"


def test_a_failed_run_leaves_nothing_half_written(settings, output):
    run = settings("full", learning_rate=1e30)
    with pytest.raises(TrainingError):
        train_run(run, output)
    assert not RunFolder.below(output, run.name).path.exists()


def test_a_resume_that_fails_loses_nothing(settings, output):
    run = settings("full", learning_rate=1e30)
    checkpoint = RunFolder.below(output, run.name).checkpoints / "checkpoint-5" / "state"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_text("hours of work")
    with pytest.raises(TrainingError):
        train_run(run, output, resume=True)
    assert checkpoint.read_text() == "hours of work"


def test_a_failed_run_of_many_is_a_record_that_says_why(settings, output):
    record = run_and_record(settings("full", learning_rate=1e30), output)
    assert record.status == "failed"
    assert record.error.startswith("the loss became")
    assert record.traceback is None


def test_a_fault_of_ours_in_one_run_of_many_keeps_its_traceback(settings, output, monkeypatch):
    monkeypatch.setattr(run_module, "initialize_adapter", lambda *_: 1 / 0)
    record = run_and_record(settings("lora"), output)
    assert record.error == "ZeroDivisionError: division by zero"
    assert "in _perform" in record.traceback


def test_a_run_that_is_done_is_not_done_again(settings, output, monkeypatch):
    run = settings("lora")
    first = run_and_record(run, output)
    monkeypatch.setattr(run_module, "_perform", lambda *_, **__: pytest.fail("done again"))
    assert run_and_record(run, output) == first


@pytest.mark.parametrize(
    ("name", "r", "message"),
    [
        ("lora-xs", 6, r"method: r must be between 1 and 5 .*layers\.4.*got 6"),
        ("rac-lora", 7, r"r must be between 1 and 5 .*layers\.4.*got 7"),
    ],
)
def test_a_rank_that_a_layer_does_not_allow_is_refused(settings, output, name, r, message):
    with pytest.raises(ValueError, match=message):
        train_run(settings(name, r=r), output)


@pytest.mark.parametrize(
    ("loop", "keep"), [("lean", "last"), ("trainer", "last"), ("trainer", "best")]
)
def test_a_folder_that_is_removed_in_mid_run_holds_the_whole_run_or_none(
    settings, output, loop, keep
):
    # So high a rate that the first epoch is the best.
    run = settings("lora", loop=loop, keep=keep, learning_rate=0.3)
    path = RunFolder.below(output, run.name).path

    def remove(_line) -> None:
        shutil.rmtree(path, ignore_errors=True)

    if keep == "best":
        with pytest.raises(TrainingError, match=r"best checkpoint, .*, was removed"):
            train_run(run, output, say=remove)
        assert not path.exists()
        return
    record = train_run(run, output, say=remove)
    opened = FinishedRun.open(path)
    assert opened.record == record
    assert opened.score("validation").score == record.score_validation


def test_a_run_is_performed_by_one_command_at_a_time(settings, output):
    run = settings("lora", epochs=1)
    path = RunFolder.below(output, run.name).path
    with sole_use(path), pytest.raises(SettingsError, match="another command of Rankwise"):
        train_run(run, output, resume=True)
    assert not path.exists()
    train_run(run, output)
    assert not (path / LOCK).exists()


def test_an_interrupted_trainer_run_resumes_to_the_same_weights(
    settings, output, tmp_path, monkeypatch
):
    run = settings("rac-lora", loop="trainer", method={"schedule": {"every_epochs": 1}})
    whole = train_run(run, tmp_path / "whole")

    class Killed(BaseException):
        pass

    def killed_in_the_last_epoch(trainer, *arguments, **named):
        if trainer.state.global_step == 15:
            raise Killed
        return evaluate(trainer, *arguments, **named)

    evaluate = JobTrainer.evaluate
    monkeypatch.setattr(JobTrainer, "evaluate", killed_in_the_last_epoch)
    with pytest.raises(Killed):
        train_run(run, output)
    monkeypatch.setattr(JobTrainer, "evaluate", evaluate)
    resumed = train_run(run, output, resume=True)
    assert resumed.curve == whole.curve
    states = [
        FinishedRun.below(folder, run.name).trained_model().state_dict()
        for folder in (output, tmp_path / "whole")
    ]
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())


# --- two commands at one run ------------------------------------------------------------------


def test_a_comparison_does_not_touch_a_run_that_another_command_performs(
    settings, output, monkeypatch
):
    monkeypatch.setattr(run_module, "_SECONDS_TO_LEAVE", 0)
    run = settings("lora", loop="lean")
    folder, other = RunFolder.below(output, run.name), settings("lora", loop="lean", seed=1)
    assert run.is_stackable
    for perform in (partial(run_and_record, run), partial(run_all_and_record, [other, run])):
        with (
            sole_use(folder.path),
            pytest.raises(SettingsError, match=r"another command .* is at work in .*lora"),
        ):
            perform(output)
        assert not folder.path.exists()


def test_a_run_of_a_comparison_keeps_other_commands_out(settings, output, monkeypatch):
    run, refused = settings("lora"), []
    perform = run_module._perform

    def tried_meanwhile(*arguments, **options):
        with pytest.raises(SettingsError, match="is at work") as caught:
            train_run(run, output, resume=True)
        refused.append(caught)
        return perform(*arguments, **options)

    monkeypatch.setattr(run_module, "_perform", tried_meanwhile)
    record = run_and_record(run, output)
    assert len(refused) == 1
    assert train_run(run, output, resume=True) == record
    assert not (RunFolder.below(output, run.name).path / LOCK).exists()
