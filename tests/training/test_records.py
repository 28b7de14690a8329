"""Records as they were written are read back, also those of version 0.1; damage is named."""

from __future__ import annotations

import json

import pytest

from rankwise.comparison.records import SummaryRow
from rankwise.core.errors import AdapterError
from rankwise.core.records import write_record
from rankwise.training.records import (
    DiagnosticPoint,
    FailedRun,
    MethodIdentity,
    RunRecord,
    read_run,
)

IDENTITY = {
    "run": "lora-r2-lr0.01-s0-abc",
    "method": {"name": "lora", "r": 2, "side": None, "budget": "300"},
    "seed": 0,
    "learning_rate": 0.01,
    "settings": {"method": {"name": "lora"}},
}
DONE = IDENTITY | {
    "status": "done",
    "metric": "accuracy",
    "trainable_parameters": 10,
    "stored_bytes": 40,
    "score_validation": 0.5,
    "curve": [{"step": 0, "train_loss": None, "validation_loss": 1.0, "validation_score": 0.5}],
    "seconds": {"total": 1.0},
}


def test_a_method_has_one_label_wherever_it_stands():
    row = SummaryRow(name="rac-lora", r=2, side="left", budget="300", score_mean=0.5)
    assert row.label == row.identity.label == "rac-lora r=2, left"
    assert row.identity == MethodIdentity(name="rac-lora", r=2, side="left", budget="300")
    assert MethodIdentity(name="full").label == "full"


def test_a_record_is_read_back_as_it_was_written(tmp_path):
    record = RunRecord.model_validate(DONE)
    record.write(tmp_path / "record.json")
    assert read_run(tmp_path / "record.json") == record


def test_the_status_decides_what_a_record_is(tmp_path):
    failed = IDENTITY | {"status": "failed", "error": "the loss became nan", "seconds": {}}
    write_record(tmp_path / "record.json", failed)
    read = read_run(tmp_path / "record.json")
    assert isinstance(read, FailedRun)
    assert read.error == "the loss became nan"


def test_a_record_of_version_0_1_is_read(tmp_path):
    old = DONE | {
        "method": DONE["method"] | {"budget": 300},
        "diagnostics": [{"step": 0, "strength": 0.25, "followed": 0.5, "batch_loss": None}],
    }
    write_record(tmp_path / "record.json", old)
    read = read_run(tmp_path / "record.json")
    assert isinstance(read, RunRecord)
    assert read.method.budget == "300"
    assert read.diagnostics == (DiagnosticPoint(step=0, relative_norm=0.25, captured_share=0.5),)


@pytest.mark.parametrize(
    ("damage", "place"),
    [
        ({"score_validation": "high"}, "score_validation"),
        ({"curve": [{"step": 0}]}, r"curve\.0\.validation_loss"),
        ({"method": None}, "method"),
        ({"status": "perhaps"}, "the file"),
        ({"seconds": []}, "seconds"),
    ],
)
def test_damage_is_named_with_its_place(tmp_path, damage, place):
    write_record(tmp_path / "record.json", DONE | damage)
    with pytest.raises(AdapterError, match=rf"damaged or of another kind \(.*{place}"):
        read_run(tmp_path / "record.json")


def test_a_number_that_is_not_finite_is_refused(tmp_path):
    text = json.dumps({"format_version": 1} | DONE).replace("0.5", "NaN")
    (tmp_path / "record.json").write_text(text)
    with pytest.raises(AdapterError, match="finite"):
        read_run(tmp_path / "record.json")


def test_settings_of_another_version_are_named():
    record = RunRecord.model_validate(DONE | {"settings": {"method": {"nmae": "lora"}}})
    with pytest.raises(AdapterError, match="not of this version"):
        record.run_settings()
