"""One command at a time in a folder."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed

import pytest

from rankwise.core.errors import SettingsError
from rankwise.core.locks import sole_use

HOLD = """
import pathlib, sys, time
from rankwise.core.locks import sole_use

with sole_use(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""
REFUSED = r"another command of Rankwise is at work in .*--output"


def test_a_folder_serves_one_command_after_another(tmp_path):
    for _ in range(2):
        with sole_use(tmp_path / "output"):
            (tmp_path / "output" / "summary.json").touch()
    assert os.listdir(tmp_path / "output") == ["summary.json"]


def test_nothing_is_left_of_a_command_that_could_not_begin(tmp_path):
    with pytest.raises(SettingsError, match="no such data"), sole_use(tmp_path / "output"):
        raise SettingsError("no such data")
    assert not (tmp_path / "output").exists()


def test_a_folder_that_is_removed_meanwhile_is_no_error(tmp_path):
    with sole_use(tmp_path / "output"):
        shutil.rmtree(tmp_path / "output")
    assert not (tmp_path / "output").exists()


def test_a_second_command_is_refused_in_the_same_process_too(tmp_path):
    with sole_use(tmp_path), pytest.raises(SettingsError, match=REFUSED), sole_use(tmp_path):
        pass


def test_of_eight_that_begin_at_once_one_works(tmp_path):
    beginning, ending = threading.Barrier(8), threading.Event()

    def work(_: int) -> str:
        beginning.wait()
        try:
            with sole_use(tmp_path / "output"):
                ending.wait()
                return "worked"
        except SettingsError:
            return "refused"

    with ThreadPoolExecutor(8) as pool:
        found = as_completed([pool.submit(work, number) for number in range(8)])
        refused = [next(found).result() for _ in range(7)]
        ending.set()
        assert next(found).result() == "worked"
    assert refused == ["refused"] * 7


@pytest.mark.processes
def test_a_second_command_is_refused_until_the_first_is_gone_even_if_killed(tmp_path):
    output = tmp_path / "output"
    command = [sys.executable, "-c", HOLD, str(output)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        with pytest.raises(SettingsError, match=REFUSED), sole_use(output):
            pass
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
        with sole_use(output):
            pass


def test_a_folder_in_which_nothing_can_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(SettingsError, match=r"nothing can be written in .*file/output"),
        sole_use(tmp_path / "file" / "output"),
    ):
        pass
