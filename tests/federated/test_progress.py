"""What a federation leaves on disk, as it is read back; also that of version 0.1."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from rankwise.core.errors import SettingsError
from rankwise.federated.progress import Progress, SavedProgress
from rankwise.federated.table import federations_table, remarks
from rankwise.training.records import FederationRecord, Federations, Round
from tests.federated.test_server import federate

OLD = Path(__file__).parent / "version_0_1"
STOPPED = OLD / "rac-lora-0971b469148bc564-2"


def test_what_was_saved_is_loaded(plan_of, tmp_path):
    plan = plan_of("rac-lora", clients=2)
    saved = Progress(tmp_path / "run", plan)
    saved.state.put({"round-1/A": torch.arange(3.0)}, 2)
    saved.rounds += [
        Round(number=0, score=0.1, loss=2.0, seconds=0.5),
        Round(number=1, score=0.2, loss=1.5, seconds=0.5, clients=(0,), left_out={1: "it failed"}),
    ]
    saved.save()
    loaded = Progress(tmp_path / "run", plan)
    loaded.load()
    assert loaded.rounds == saved.rounds
    assert loaded.state.stamps == {"round-1/A": 2}
    assert torch.equal(loaded.state.tensors["round-1/A"], torch.arange(3.0))


def test_progress_of_another_plan_is_refused(plan_of, tmp_path):
    saved = Progress(tmp_path, plan_of("lora", clients=2))
    saved.rounds.append(Round(number=0, score=0.1, loss=2.0, seconds=0.5))
    saved.save()
    with pytest.raises(SettingsError, match="other settings"):
        Progress(tmp_path, plan_of("lora", clients=3)).load()


def test_a_record_of_version_0_1_is_read():
    record = FederationRecord.read(OLD / "record.json")
    assert (record.method, record.metric, record.trained_numbers) == ("rac-lora", "accuracy", 448)
    assert record.plan.digest == record.digest == "0971b469148bc564"
    assert record.rounds[1].left_out == {1: "it failed: the power went out"}
    assert record.rounds[2].clients == (0, 1)


def test_federations_of_version_0_1_are_shown():
    records = Federations.read(OLD / "federated.json").federations
    assert [each.method for each in records] == ["rac-lora", "lora-sb", "lora", "full"]
    assert federations_table(records).row_count == 4
    assert remarks(records)[1] == (
        "fed-sb, round 1: client 1 was left out: it failed: the power went out"
    )


def test_a_federation_that_version_0_1_left_unfinished_is_resumed(cache, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(STOPPED, folder)
    saved = SavedProgress.read(folder / "progress.json")
    record, grid = federate(saved.plan, folder, cache)
    assert record.rounds[:2] == saved.rounds
    assert {number for _, number, _ in grid.sent} == {0, 2}
    before, after = (
        load_file(STOPPED / "state-1.safetensors"),
        load_file(folder / "state-2.safetensors"),
    )
    assert all(torch.equal(after[name], before[name]) for name in before)
