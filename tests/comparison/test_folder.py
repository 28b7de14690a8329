"""One comparison at a time in a folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from rankwise.comparison.folder import sole_use
from rankwise.core.errors import SettingsError

HOLD = """
import pathlib, sys, time
from rankwise.comparison.folder import sole_use

with sole_use(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_folder_serves_one_comparison_after_another(tmp_path):
    for _ in range(2):
        with sole_use(tmp_path / "output"):
            (tmp_path / "output" / "summary.json").touch()


def test_nothing_is_left_of_a_comparison_that_could_not_begin(tmp_path):
    with pytest.raises(SettingsError, match="no such data"), sole_use(tmp_path / "output"):
        raise SettingsError("no such data")
    assert not (tmp_path / "output").exists()


@pytest.mark.processes
def test_a_second_comparison_is_refused_until_the_first_is_gone_even_if_killed(tmp_path):
    output = tmp_path / "output"
    command = [sys.executable, "-c", HOLD, str(output)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        refusal = pytest.raises(SettingsError, match=r"another comparison is at work in .*--output")
        with refusal, sole_use(output):
            pass
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
        with sole_use(output):
            pass
