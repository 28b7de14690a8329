"""One comparison at a time in a folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from rankwise.comparison.folder import read_summary, sole_use
from rankwise.core.errors import AdapterError, SettingsError
from rankwise.core.records import write_record

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


def test_a_summary_of_version_0_1_is_read(tmp_path):
    lora = {"name": "lora", "r": 1, "side": None, "budget": "300", "status": "ok"}
    lora |= {"score_mean": 0.5, "scores": [0.4, 0.6], "seeds": [0, 1], "warnings": []}
    cola = {"name": "cola", "r": 1, "side": "both", "budget": 300, "scores": [], "seeds": []}
    cola |= {"status": "failed: the loss became nan", "score_mean": None, "warnings": []}
    protocol = {"baseline": "lora", "learning_rates": [0.1], "seeds": [0, 1], "widenings": 4}
    old = {"task": "digits", "protocol": protocol, "methods": [lora, cola], "runs": ["a"]}
    write_record(tmp_path / "summary.json", old)
    summary = read_summary(tmp_path)
    assert [row.is_scored for row in summary.methods] == [True, False]
    assert summary.methods[0].scores == (0.4, 0.6)
    assert summary.methods[1].error == "the loss became nan"
    assert summary.methods[1].budget == "300"


def test_what_is_no_summary_is_named(tmp_path):
    write_record(tmp_path / "summary.json", {"task": "digits"})
    with pytest.raises(AdapterError, match=r"summary\.json is damaged or of another kind"):
        read_summary(tmp_path)
