"""A run is opened again as it was left, wherever it lies now, and its test is read once."""

from __future__ import annotations

import shutil

import pytest

from rankwise.core.errors import AdapterError, SettingsError
from rankwise.training import finished, job
from rankwise.training.build import build_task
from rankwise.training.finished import FinishedRun, retention_task, score_test
from rankwise.training.folder import RunFolder
from rankwise.training.records import RetentionRecord
from rankwise.training.run import run_and_record, train_run
from rankwise.training.settings.recipe import load_recipe


@pytest.fixture
def trained(settings, output):
    """Train a method and return its settings, record and folder."""

    def train(name, **choices):
        run = settings(name, **choices)
        return run, train_run(run, output), RunFolder.below(output, run.name).path

    return train


@pytest.mark.parametrize("name", ["full", "lora", "cola", "lora-sb", "delora"])
def test_the_saved_model_scores_what_the_record_says(trained, name):
    _, record, path = trained(name)
    assert FinishedRun.open(path).score("validation").score == record.score_validation


def test_a_run_in_bfloat16_is_scored_again_as_it_was_scored_in_training(trained):
    _, record, path = trained("lora", loop="trainer", bf16=True, keep="last")
    assert FinishedRun.open(path).score("validation").loss == record.curve[-1].validation_loss


@pytest.mark.parametrize("bf16", [False, True])
def test_a_run_is_scored_in_the_precision_of_its_training(trained, monkeypatch, bf16):
    _, _, path = trained("lora", loop="trainer", bf16=bf16)
    asked, evaluate = [], finished.evaluate

    def look(*arguments, **options):
        asked.append(options["bf16"])
        return evaluate(*arguments, **options)

    monkeypatch.setattr(finished, "evaluate", look)
    FinishedRun.open(path).score("validation")
    FinishedRun.open(path).score_test()
    assert asked == [bf16, bf16]


@pytest.mark.parametrize(("loop", "moves"), [("trainer", 3), ("lean", 0)])
def test_a_run_is_scored_and_measured_where_it_was_trained(trained, monkeypatch, loop, moves):
    _, _, path = trained("lora", loop=loop)
    moved = []
    monkeypatch.setattr(job, "on_accelerator", lambda model: moved.append(model) or model)
    FinishedRun.open(path).score("validation")
    assert len(moved) == moves // 3
    FinishedRun.open(path).score_test()  # which measures retention beside a fresh base
    assert len(moved) == moves


def test_a_run_is_opened_by_its_folder_and_by_its_adapter(trained):
    run, record, path = trained("lora")
    for place in (path, path / "adapter"):
        opened = FinishedRun.open(place)
        assert (opened.settings, opened.record, opened.name) == (run, record, run.name)
        assert opened.folder.path == path.resolve()


@pytest.mark.parametrize("place", ["copy", "archive/2026/best run"])
def test_a_run_that_was_moved_is_opened_where_it_lies(trained, tmp_path, place):
    run, record, path = trained("lora")
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    shutil.move(path, tmp_path / place)
    opened = FinishedRun.open(tmp_path / place)
    assert opened.name == run.name
    assert opened.score("validation").score == record.score_validation


def test_test_is_read_once_and_kept(trained, output, monkeypatch):
    run, *_ = trained("lora")
    first = score_test(run, output)
    right = [mine == label for mine, label in zip(first.predictions, first.labels, strict=True)]
    assert first.score_test == sum(right) / len(right)
    monkeypatch.setattr(finished, "evaluate", lambda *_: pytest.fail("read again"))
    assert score_test(run, output) == first


def test_the_score_of_another_adapter_is_not_taken_for_this_ones(trained, output):
    run, _, path = trained("lora")
    _, _, other = trained("lora", seed=1)
    score_test(run, output)
    shutil.rmtree(path / "adapter")
    shutil.copytree(other / "adapter", path / "adapter")
    with pytest.raises(AdapterError, match="the score of another adapter"):
        score_test(run, output)


@pytest.mark.parametrize("name", ["full", "lora"])
def test_a_truncated_adapter_file_is_named(trained, output, name):
    run, _, path = trained(name)
    (file,) = (path / "adapter").glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(AdapterError, match=r"adapter cannot be read .*run again"):
        score_test(run, output)


def test_a_folder_without_a_record_is_refused(output):
    with pytest.raises(AdapterError, match=r"holds no record\.json: name the folder of a run"):
        FinishedRun.open(output / "runs" / "none")


def test_a_failed_run_is_refused(settings, output):
    run = settings("full", learning_rate=1e30)
    run_and_record(run, output)
    with pytest.raises(AdapterError, match=r"holds no finished run \(the loss became"):
        FinishedRun.open(output / "runs" / run.name)


def test_a_split_that_does_not_exist_is_refused(trained):
    _, _, path = trained("lora")
    with pytest.raises(SettingsError, match="train, validation or test, got 'dev'"):
        FinishedRun.open(path).score("dev")


@pytest.mark.parametrize("name", ["full", "lora", "rac-lora"])
def test_what_was_lost_of_the_base_is_measured_with_the_test_score_and_kept(trained, output, name):
    run, _, path = trained(name)
    score_test(run, output)
    kept = RetentionRecord.read(path / "retention.json")
    assert kept.run == run.name
    assert kept.forgetting == pytest.approx(kept.before - kept.after)
    opened = FinishedRun.open(path)
    assert opened.retention() == kept
    (path / "retention.json").unlink()
    assert FinishedRun.open(path).retention() == kept
    base = opened.base_model()
    assert opened.task.remember(base)(base).before == kept.before


def test_the_retention_of_another_adapter_is_not_taken_for_this_ones(trained, output):
    run, _, path = trained("lora")
    score_test(run, output)
    kept = RetentionRecord.read(path / "retention.json")
    kept.model_copy(update={"adapter_digest": "another"}).write(path / "retention.json")
    with pytest.raises(AdapterError, match="the retention of another adapter"):
        FinishedRun.open(path).retention()


def test_a_task_without_a_measure_of_it_is_named():
    task = build_task(load_recipe("abm-vtab", {}).run())
    with pytest.raises(SettingsError, match="task cifar100 knows no measure of what its base knew"):
        retention_task(task)
