"""A disk that fills up at any file: no run is called failed for it, and all goes on afterwards."""

from __future__ import annotations

import pytest
from safetensors import SafetensorError

from rankwise.core.disk import is_want_of_room
from rankwise.core.records import read_record
from rankwise.training.folder import RunFolder
from rankwise.training.run import run_and_record
from rankwise.training.together import run_all_and_record
from tests.full_disk import Disk
from tests.training.loops.test_lean import short

pytestmark = pytest.mark.runs

METHOD = "abm-lora-task"  # every stage: a reference, an initialization, training


def run_alone(settings, output):
    return [run_and_record(settings, output)]


def run_together(settings, output):
    return run_all_and_record([settings], output)


@pytest.mark.parametrize(
    ("perform", "name", "training", "stride"),
    [
        (run_alone, METHOD, {"loop": "lean", "epochs": 1}, 1),
        (run_together, METHOD, {"loop": "lean", "epochs": 1}, 2),
        # Checkpoints, with the ledger of a chain: many files alike.
        (run_alone, "rac-lora", {"loop": "trainer", "epochs": 2}, 3),
    ],
)
def test_a_run_for_which_there_is_no_room_is_none_that_failed(
    settings, output, monkeypatch, perform, name, training, stride
):
    run = settings(name, method=short(name), **training)
    with monkeypatch.context() as patch:
        disk = Disk(output, patch)
        (whole,) = perform(run, output)
    folder = RunFolder.below(output, run.name)
    weights = (folder.adapter / "adapter_model.safetensors").read_bytes()
    assert disk.files >= 7
    for number in range(1, disk.files + 1, stride):
        folder.clear()
        with monkeypatch.context() as patch:
            Disk(output, patch, refused=number)
            with pytest.raises((OSError, SafetensorError, RuntimeError)) as caught:
                perform(run, output)
        assert is_want_of_room(caught.value)
        assert not folder.record.exists()
        assert not list(folder.path.glob(".*")), "half a file is left"
        (again,) = perform(run, output)
        assert read_record(folder.record)["status"] == "done"
        assert again.curve == whole.curve
        assert (folder.adapter / "adapter_model.safetensors").read_bytes() == weights
