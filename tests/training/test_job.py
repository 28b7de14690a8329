"""Which training rows an initialization takes."""

from __future__ import annotations

import pytest

from rankwise.training import job as job_module
from rankwise.training import run as run_module
from rankwise.training.finished import FinishedRun
from rankwise.training.folder import RunFolder
from rankwise.training.initialization import initialize_adapter
from rankwise.training.job import prepare_job
from rankwise.training.loops.chains import _gradient_batch
from rankwise.training.run import train_run


@pytest.fixture
def job(settings, output):
    def make(name="lora-sb", **method):
        seed = method.pop("seed", 0)
        return prepare_job(settings(name, seed=seed, method=method), output / "base")

    return make


def test_the_rows_are_drawn_by_the_seed_from_the_whole_training_split(job):
    first, again, other = (job(seed=seed).sample(50, "random") for seed in (0, 0, 1))
    assert first.equal(again)
    assert not first.equal(other)
    assert len(set(first.tolist())) == 50
    assert first.max() > 200


def test_the_first_rows_can_be_had_as_version_0_1_took_them(job):
    assert job().sample(50, "first").tolist() == list(range(50))


@pytest.mark.parametrize("sampling", ["random", "first"])
def test_no_more_rows_are_drawn_than_there_are(job, sampling):
    made = job()
    rows = made.sample(10**6, sampling)
    assert sorted(rows.tolist()) == list(range(len(made.splits.train)))


def test_the_sample_holds_several_classes(job):
    made = job()
    batch = made.splits.train.take(made.sample(9, "random"))
    assert len(set(batch["labels"].tolist())) > 1


@pytest.mark.parametrize("name", ["lora-sb", "abm-lora"])
def test_the_record_says_which_rows_an_initialization_took(job, tmp_path, name):
    made = job(name, init={"samples": 20})
    record = initialize_adapter(made, RunFolder(tmp_path, tmp_path))
    assert list(record.rows) == made.sample(20, "random").tolist()


@pytest.mark.parametrize(("loop", "seen"), [("trainer", ["place", "init"]), ("lean", ["init"])])
def test_a_model_is_where_it_trains_before_it_is_initialised(
    settings, output, monkeypatch, loop, seen
):
    happened = []
    monkeypatch.setattr(job_module, "on_accelerator", lambda _: happened.append("place"))

    def begin(*arguments):
        happened.append("init")
        return initialize_adapter(*arguments)

    monkeypatch.setattr(run_module, "initialize_adapter", begin)
    train_run(settings("lora-sb", loop=loop, epochs=1), output)
    assert happened == seen


@pytest.mark.cuda
@pytest.mark.parametrize("name", ["lora-sb", "abm-lora", "rac-lora"])
def test_on_a_gpu_a_run_is_scored_again_as_it_was_scored_in_training(settings, output, name):
    run = settings(name, loop="trainer", epochs=2, keep="last")
    record = train_run(run, output)
    again = FinishedRun.below(output, run.name).score("validation")
    assert again.loss == pytest.approx(record.curve[-1].validation_loss, rel=1e-4)


def test_a_sketch_of_the_gradient_draws_its_rows_too(job):
    made = job("rac-lora-gradient", schedule={"gradient_samples": 10})
    expected = made.splits.train.take(made.sample(10, "random"))
    batch = _gradient_batch(made, made.settings.method.schedule)
    assert batch["labels"].equal(expected["labels"])
