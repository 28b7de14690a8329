"""A signal in training waits for a checkpoint, from which the run goes on to the same end."""

from __future__ import annotations

import itertools
import json
import os
import signal
from types import SimpleNamespace

import pytest
import torch

from rankwise.cli.main import main
from rankwise.core.interrupts import Terminated, raised_sigterm
from rankwise.training.finished import FinishedRun
from rankwise.training.folder import RunFolder
from rankwise.training.loops import elapsed
from rankwise.training.loops.trainer import JobTrainer, last_checkpoint
from rankwise.training.run import train_run

pytestmark = pytest.mark.runs

CHAIN = {"schedule": {"every_epochs": 1}}
LOOKS = {"captured_below": 0.5, "look_every": 2, "most_steps": 5, "gradient_samples": 16}
WATCHED = {"schedule": {"every_epochs": None, "warmup_steps": 1, **LOOKS}}
DROPOUT = {"adapter": {"dropout": 0.3}}


@pytest.fixture(autouse=True)
def listening():
    """Ctrl-C as in a terminal: what is started in the background is told to ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def signals(monkeypatch):
    """Have signals sent in the middle of steps: ``signals[7] = [signal.SIGINT]``."""
    sent = {}
    plain = JobTrainer.training_step

    def step(trainer, *arguments, **named):
        for each in sent.pop(trainer.state.global_step + 1, []):
            os.kill(os.getpid(), each)
        return plain(trainer, *arguments, **named)

    monkeypatch.setattr(JobTrainer, "training_step", step)
    return sent


def checkpoint_of(run, output):
    last = last_checkpoint(RunFolder.below(output, run.name).checkpoints)
    return last and last.rpartition("-")[2]


@pytest.mark.parametrize(
    ("name", "options", "step", "kept"),
    [
        ("lora", {"logging_steps": 3, "method": DROPOUT, "keep": "best"}, 7, "7"),
        ("rac-lora", {"method": CHAIN, "accumulation_steps": 2}, 5, "5"),
        ("rac-lora", {"method": WATCHED}, 7, "7"),
        ("lora", {}, 10, "10"),  # the last of an epoch, which is scored first
    ],
)
def test_a_run_that_was_stopped_ends_as_one_that_was_not(
    settings, output, tmp_path, signals, name, options, step, kept
):
    run = settings(name, loop="trainer", **options)
    whole = train_run(run, tmp_path / "whole")
    signals[step] = [signal.SIGINT]
    with pytest.raises(KeyboardInterrupt):
        train_run(run, output)
    assert checkpoint_of(run, output) == kept
    resumed = train_run(run, output, resume=True)
    assert resumed.curve == whole.curve
    assert resumed.steps == whole.steps
    assert resumed.folds == whole.folds
    assert resumed.diagnostics == whole.diagnostics
    states = [
        FinishedRun.below(folder, run.name).trained_model().state_dict()
        for folder in (output, tmp_path / "whole")
    ]
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())


def test_what_was_taken_before_the_stop_counts(settings, output, signals, monkeypatch):
    hour = 3600.0
    run = settings("lora", loop="trainer", learning_rate=1e-2)
    signals[7] = [signal.SIGINT]
    plain = elapsed.time.perf_counter
    with monkeypatch.context() as patch:
        # The clock of the first process is an hour on when it writes its checkpoint.
        readings = itertools.chain([plain()], itertools.repeat(plain() + hour))
        patch.setattr(elapsed, "time", SimpleNamespace(perf_counter=lambda: next(readings)))
        with pytest.raises(KeyboardInterrupt):
            train_run(run, output)
    resumed = train_run(run, output, resume=True).seconds
    assert hour < resumed.train + resumed.diagnose < resumed.total < hour + 60
    whole = train_run(run, output / "whole").seconds
    assert resumed.diagnose > whole.diagnose / 2


def test_a_checkpoint_of_an_earlier_version_says_nothing_of_its_time(settings, output, signals):
    run = settings("lora", loop="trainer")
    signals[7] = [signal.SIGINT]
    with pytest.raises(KeyboardInterrupt):
        train_run(run, output)
    folder = RunFolder.below(output, run.name).checkpoints / "checkpoint-7"
    state = json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))
    assert state["stateful_callbacks"].pop("ElapsedCallback")["attributes"]["seconds"] > 0
    (folder / "trainer_state.json").write_text(json.dumps(state), encoding="utf-8")
    assert train_run(run, output, resume=True).seconds.train > 0


def test_sigterm_is_heard_too_as_often_as_it_comes(settings, output, signals):
    run = settings("lora", loop="trainer")
    signals[2] = [signal.SIGTERM, signal.SIGTERM]
    with raised_sigterm(), pytest.raises(Terminated):
        train_run(run, output)
    assert checkpoint_of(run, output) == "2"


def test_a_second_ctrl_c_does_not_wait(settings, output, signals):
    run = settings("lora", loop="trainer")
    signals[2] = [signal.SIGINT, signal.SIGINT]
    with pytest.raises(KeyboardInterrupt):
        train_run(run, output)
    assert checkpoint_of(run, output) is None


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_command_says_how_to_go_on_and_with_what_it_ended(output, signals, capsys, sent, code):
    words = ["train", "digits", "--task.pretrain_epochs", "2", "--training.loop", "trainer"]
    words += ["--training.epochs", "1", "--training.batch_size", "128", "--output", str(output)]
    signals[2] = [sent]
    assert main(words) == code
    assert capsys.readouterr().err.endswith("rerun the same command with --resume to resume\n")
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert main([*words, "--resume"]) == 0


def test_a_run_that_stalled_before_it_was_stopped_trains_no_more(
    settings, output, tmp_path, monkeypatch
):
    run = settings("lora", loop="trainer", patience=1, learning_rate=1.0)
    whole = train_run(run, tmp_path / "whole")
    assert whole.curve[-1].step < 15, "it did not stall"

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(JobTrainer, "_finalize_training", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train_run(run, output)
    assert train_run(run, output, resume=True).curve == whole.curve
