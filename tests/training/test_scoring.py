"""A run is opened again as it was left, and its test is read once."""

from __future__ import annotations

import pytest

from rankwise.core.errors import AdapterError, SettingsError
from rankwise.training import scoring
from rankwise.training.folder import RunFolder
from rankwise.training.run import run_and_record, train_run
from rankwise.training.scoring import open_run, score_split, score_test


@pytest.mark.parametrize("name", ["full", "lora", "cola", "lora-sb", "delora"])
def test_the_saved_model_scores_what_the_record_says(settings, output, name):
    run = settings(name)
    record = train_run(run, output)
    result = score_split(run, RunFolder(output, run.name), split="validation")
    assert result.score == record["score_validation"]


def test_test_is_read_once_and_kept(settings, output, monkeypatch):
    run = settings("lora")
    train_run(run, output)
    first = score_test(run, output)
    right = [
        mine == label for mine, label in zip(first["predictions"], first["labels"], strict=True)
    ]
    assert first["score_test"] == sum(right) / len(right)
    monkeypatch.setattr(scoring, "evaluate", lambda *_: pytest.fail("read again"))
    assert score_test(run, output)["score_test"] == first["score_test"]


@pytest.mark.parametrize("name", ["full", "lora"])
def test_a_truncated_adapter_file_is_named(settings, output, name):
    run = settings(name)
    train_run(run, output)
    (file,) = RunFolder(output, run.name).adapter.glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(AdapterError, match=r"adapter cannot be read .*run again"):
        score_test(run, output)


def test_a_finished_run_is_opened_by_its_folder(settings, output):
    run = settings("lora")
    train_run(run, output)
    opened, folder = open_run(output / "runs" / run.name)
    assert opened == run
    assert folder.record.exists()


def test_a_folder_without_a_record_is_refused(output):
    with pytest.raises(AdapterError, match="no record at"):
        open_run(output / "runs" / "none")


def test_a_failed_run_is_refused(settings, output):
    run = settings("full", learning_rate=1e30)
    run_and_record(run, output)
    with pytest.raises(AdapterError, match=r"holds no finished run \(the loss became"):
        open_run(output / "runs" / run.name)


def test_a_split_that_does_not_exist_is_refused(settings, output):
    with pytest.raises(SettingsError, match="train, validation or test, got 'dev'"):
        score_split(settings("lora"), RunFolder(output, "x"), split="dev")
