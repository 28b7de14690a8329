"""A disk that fills up at any file: no run is called failed for it, and all goes on afterwards."""

from __future__ import annotations

import errno
import io
from pathlib import Path

import pytest
import safetensors.torch
from safetensors import SafetensorError

from rankwise.core.disk import is_want_of_room
from rankwise.core.records import read_record
from rankwise.training.folder import RunFolder
from rankwise.training.run import run_and_record
from rankwise.training.together import run_all_and_record
from tests.training.loops.test_lean import short

pytestmark = pytest.mark.runs

METHOD = "abm-lora-task"  # every stage: a reference, an initialization, training


class Disk:
    """Counts the files that are written in a folder, and has no room for one of them."""

    def __init__(self, folder: Path, monkeypatch, *, full_at: int = 0) -> None:
        self.folder, self.full_at, self.files = folder, full_at, 0
        opened, serialized = io.open, safetensors.torch.serialize_file

        def open_(file, mode="r", *arguments, **options):
            if not isinstance(file, int) and set(mode) & set("wax"):
                self.take(file, OSError(errno.ENOSPC, "No space left on device", str(file)))
            return opened(file, mode, *arguments, **options)

        def serialize_file(tensors, file, *arguments, **options):
            quoted = "I/O error: No space left on device (os error 28)"
            self.take(file, SafetensorError(f"Error while serializing: {quoted}"))
            return serialized(tensors, file, *arguments, **options)

        monkeypatch.setattr("builtins.open", open_)
        monkeypatch.setattr(io, "open", open_)
        monkeypatch.setattr(safetensors.torch, "serialize_file", serialize_file)

    def take(self, file, error: Exception) -> None:
        if self.folder in Path(file).resolve().parents:
            self.files += 1
            if self.files == self.full_at:
                raise error


def run_alone(settings, output):
    return [run_and_record(settings, output)]


def run_together(settings, output):
    return run_all_and_record([settings], output)


@pytest.mark.parametrize("perform", [run_alone, run_together])
def test_a_run_for_which_there_is_no_room_is_none_that_failed(
    settings, output, monkeypatch, perform
):
    # The reference of the task is trained too.
    run = settings(METHOD, method=short(METHOD), loop="lean", epochs=1)
    with monkeypatch.context() as patch:
        disk = Disk(output, patch)
        (whole,) = perform(run, output)
    folder = RunFolder.below(output, run.name)
    weights = (folder.adapter / "adapter_model.safetensors").read_bytes()
    assert disk.files >= 7
    for number in range(1, disk.files + 1):
        folder.clear()
        with monkeypatch.context() as patch:
            Disk(output, patch, full_at=number)
            with pytest.raises((OSError, SafetensorError)) as caught:
                perform(run, output)
        assert is_want_of_room(caught.value)
        assert not folder.record.exists()
        assert not list(folder.path.glob(".*")), "half a file is left"
        (again,) = perform(run, output)
        assert read_record(folder.record)["status"] == "done"
        assert again.curve == whole.curve
        assert (folder.adapter / "adapter_model.safetensors").read_bytes() == weights
