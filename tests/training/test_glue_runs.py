"""GLUE from files to record, on encoders and T5s of kilobytes: heads, best epochs, exact resume."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from rankwise.core.errors import ModelError, SettingsError
from rankwise.tasks.glue.classes import GlueClasses
from rankwise.training.build import build_task
from rankwise.training.finished import FinishedRun, score_test
from rankwise.training.folder import RunFolder
from rankwise.training.initial_adapter import write_initial_adapter
from rankwise.training.job import Job
from rankwise.training.loops.trainer import JobTrainer
from rankwise.training.run import train_run
from rankwise.training.settings.recipe import load_recipe
from tests.models.saved import make_bert, make_t5
from tests.tasks.glue.glue_files import write_mrpc

pytestmark = pytest.mark.runs

TEXTS = ["train 1 other train 22", "dev 3 other dev 4", "different equivalent", "result: classify"]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_mrpc(tmp_path_factory.mktemp("data"), train=40, dev=20, test_labelled=12)


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return make_bert(tmp_path_factory.mktemp("bert") / "model", TEXTS)


@pytest.fixture
def run_of(root, bert):
    def make(name, *, task=None, method=None, **training):
        return load_recipe(
            "glue-tutorial",
            {
                "task": {"data_root": str(root), "model": bert, "max_length": 32, **(task or {})},
                "method": {"name": name, "r": 2, **(method or {})},
                "training": {"epochs": 3, "batch_size": 8, "learning_rate": 1e-2, **training},
            },
        ).run()

    return make


@pytest.mark.parametrize("name", ["full", "lora", "rac-lora", "abm-lora", "lora-sb", "delora"])
def test_a_run_leaves_the_model_that_its_record_describes(run_of, tmp_path, name):
    method = {"schedule": {"every_epochs": 1, "fractions": []}} if name == "rac-lora" else {}
    run = run_of(name, method=method)
    record = train_run(run, tmp_path)
    assert FinishedRun.below(tmp_path, run.name).score("validation").score == (
        record.score_validation
    )
    assert record.metric == "accuracy"
    assert set(score_test(run, tmp_path).scores) == {"accuracy", "f1"}


def test_checkpoints_of_a_whole_model_draw_no_bars(run_of, tmp_path, capfd):
    train_run(run_of("full", epochs=1), tmp_path)
    assert "shards" not in capfd.readouterr().err


def test_adapter_and_head_are_counted_apart(run_of, tmp_path):
    record = train_run(run_of("lora-sb", epochs=1), tmp_path)
    # Two blocks of six linear layers and the pooler; two classes and their biases.
    assert record.trainable_parameters == 13 * 2 * 2
    assert record.head_parameters == 2 * 16 + 2


def test_the_head_is_trained_and_saved_with_the_adapter(run_of, tmp_path):
    run = run_of("lora", epochs=1)
    train_run(run, tmp_path)
    saved = load_file(RunFolder.below(tmp_path, run.name).adapter / "adapter_model.safetensors")
    model = FinishedRun.below(tmp_path, run.name).trained_model().get_base_model()
    (key,) = [key for key in saved if key.endswith("classifier.weight")]
    trained = model.classifier.modules_to_save["default"].weight
    assert torch.equal(saved[key], trained)
    assert not torch.equal(trained, model.classifier.original_module.weight)


def test_the_head_begins_from_the_seed_of_the_run(run_of):
    heads = [
        build_task(run_of("lora").model_copy(update={"seed": seed})).base_model(None).classifier
        for seed in (0, 0, 1)
    ]
    assert torch.equal(heads[0].weight, heads[1].weight)
    assert not torch.equal(heads[0].weight, heads[2].weight)


CHAIN = {"schedule": {"every_epochs": 1, "fractions": []}}
STEADY = {"scheduler": "constant", "warmup_ratio": 0.0}


@pytest.mark.parametrize(("name", "method"), [("lora-sb", {}), ("delora", {}), ("rac-lora", CHAIN)])
def test_the_best_epoch_on_validation_is_kept(run_of, tmp_path, monkeypatch, name, method):
    scores = iter([0.1, 0.4, 0.9, 0.2, 0.1, 0.4, 0.9])
    validate = Job.validate
    monkeypatch.setattr(
        Job,
        "validate",
        lambda job: replace(validate(job), scores={"accuracy": next(scores)}),
    )
    long = run_of(name, method=method, epochs=3, **STEADY)
    record = train_run(long, tmp_path)
    assert (record.step_kept, record.score_validation) == (10, 0.9)
    short = run_of(name, method=method, epochs=2, keep="last", **STEADY)
    train_run(short, tmp_path)
    kept, expected = (
        FinishedRun.below(tmp_path, run.name).trained_model().state_dict() for run in (long, short)
    )
    assert kept.keys() == expected.keys()
    for key, value in kept.items():
        torch.testing.assert_close(value, expected[key], msg=key)


@pytest.mark.parametrize(("name", "method"), [("lora-sb", {}), ("rac-lora", CHAIN)])
def test_a_run_that_was_stopped_ends_as_if_it_were_not(run_of, tmp_path, monkeypatch, name, method):
    run = run_of(name, method=method)
    whole = train_run(run, tmp_path / "whole")
    evaluate = JobTrainer.evaluate

    def stopped(trainer, *arguments, **named):
        if trainer.state.global_step == 10:
            raise KeyboardInterrupt
        return evaluate(trainer, *arguments, **named)

    monkeypatch.setattr(JobTrainer, "evaluate", stopped)
    with pytest.raises(KeyboardInterrupt):
        train_run(run, tmp_path)
    monkeypatch.setattr(JobTrainer, "evaluate", evaluate)
    resumed = train_run(run, tmp_path, resume=True)
    assert resumed.curve == whole.curve
    assert resumed.step_kept == whole.step_kept
    states = [
        FinishedRun.below(folder, run.name).trained_model().state_dict()
        for folder in (tmp_path, tmp_path / "whole")
    ]
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())


def test_accumulated_batches_train_like_one_large_one(run_of, tmp_path):
    """Forty rows are 5 batches of 8: steps of one batch or of 4 times 2 rows."""
    plain = {"group_by_length": False, "epochs": 2, "keep": "last"}
    large = train_run(run_of("lora", **plain), tmp_path)
    small = train_run(run_of("lora", batch_size=2, accumulation_steps=4, **plain), tmp_path)
    for ours, theirs in zip(small.curve, large.curve, strict=True):
        assert ours.step == theirs.step
        assert ours.validation_loss == pytest.approx(theirs.validation_loss, rel=1e-4)


def test_bf16_and_recomputed_activations_train(run_of, tmp_path):
    record = train_run(run_of("delora", bf16=True, gradient_checkpointing=True), tmp_path)
    assert record.curve[-1].train_loss < 1


def test_the_record_says_where_rows_come_from_and_how_many_were_cut(run_of, tmp_path):
    record = train_run(run_of("lora", task={"rows": 16, "max_length": 6}, epochs=1), tmp_path)
    assert record.data["train"]["rows"] == 16
    assert record.data["train"]["truncated"] > 0
    assert "test_labelled" in record.data["test"]["source"]


@pytest.mark.parametrize(
    ("name", "gated"),
    [("lora", False), ("abm-lora", True), ("abm-lora-task", False), ("lora-sb", True)],
)
def test_text_to_text_runs_from_files_to_scores(run_of, tmp_path, gated, name):
    model = make_t5(tmp_path / "t5", TEXTS, gated=gated)
    task = {"model": model, "form": "text", "max_length": 96}
    init = {"init": {"steps": 3}} if name.startswith("abm") else {}
    run = run_of(name, task=task, method=init, epochs=1)
    record = train_run(run, tmp_path / "out")
    assert record.head_parameters == 0
    assert record.curve[-1].validation_loss < record.curve[0].validation_loss
    test = score_test(run, tmp_path / "out")
    # A T5 that has seen 40 rows writes nonsense, which counts as wrong.
    assert test.invalid == sum(each is None for each in test.predictions)
    assert len(test.predictions) == 12


def test_a_model_that_has_no_head_for_classes_is_refused(run_of, tmp_path, monkeypatch):
    monkeypatch.setattr(GlueClasses, "head_modules", ("score",))
    with pytest.raises(ModelError, match=r"no head for task 'mrpc', expected a module named score"):
        train_run(run_of("lora"), tmp_path)


def test_a_model_that_does_not_exist_is_refused(run_of, tmp_path):
    with pytest.raises(ModelError, match=r"model '.*nowhere' cannot be loaded"):
        train_run(run_of("lora", task={"model": str(tmp_path / "nowhere")}), tmp_path)


def test_more_tokens_than_the_model_reads_are_refused(run_of, tmp_path):
    with pytest.raises(SettingsError, match=r"max_length must be at most 64, .* got 65"):
        train_run(run_of("lora", task={"max_length": 65}), tmp_path)


def test_a_tracker_that_does_not_exist_is_refused(run_of, tmp_path):
    with pytest.raises(SettingsError, match=r"training: .*nobody"):
        train_run(run_of("lora", report_to=["nobody"]), tmp_path)


def test_a_start_on_a_published_model_needs_no_copy_of_it(run_of, tmp_path):
    write_initial_adapter(run_of("lora-sb"), tmp_path / "start")
    assert (tmp_path / "start" / "adapter_model.safetensors").is_file()
    assert not (tmp_path / "start" / "base").exists()
