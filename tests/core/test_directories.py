"""A directory that is written is there whole, or not there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from rankwise.core.directories import draft_of
from rankwise.core.errors import SettingsError


def write(draft) -> None:
    draft.mkdir()
    (draft / "file").write_text("whole")


@pytest.mark.parametrize("is_there", [False, True])
def test_it_appears_at_the_end(tmp_path, is_there):
    target = tmp_path / "above" / "target"
    if is_there:
        target.mkdir(parents=True)
    with draft_of(target) as draft:
        write(draft)
        assert not list(target.glob("*"))
    assert (target / "file").read_text() == "whole"
    assert os.listdir(target.parent) == ["target"]


def test_after_an_error_nothing_is_left(tmp_path):
    def fail() -> None:
        with draft_of(tmp_path / "target") as draft:
            write(draft)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert not list(tmp_path.iterdir())


def test_what_is_there_is_never_replaced(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    for name, message in (
        ("full", "full is not empty"),
        ("file", "is not a directory"),
        ("link", "is not a directory"),
    ):
        with pytest.raises(SettingsError, match=message), draft_of(tmp_path / name):
            pass
    assert [each.name for each in (tmp_path / "full").iterdir()] == ["mine"]


def test_a_directory_that_was_filled_meanwhile_stays(tmp_path):
    target = tmp_path / "target"

    def meet() -> None:
        with draft_of(target) as draft:
            write(draft)
            target.mkdir()
            (target / "mine").touch()

    with pytest.raises(SettingsError, match="target is not empty"):
        meet()
    assert [each.name for each in target.iterdir()] == ["mine"]


@pytest.mark.processes
def test_a_writer_that_is_killed_leaves_no_target(tmp_path):
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from rankwise.core.directories import draft_of\n"
        "with draft_of(Path(sys.argv[1])) as draft:\n"
        "    draft.mkdir(); (draft / 'file').touch(); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    run = subprocess.run([sys.executable, "-c", code, str(tmp_path / "target")])
    assert run.returncode == -signal.SIGKILL
    assert not (tmp_path / "target").exists()
