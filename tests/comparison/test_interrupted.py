"""Ctrl-C stops a comparison at once, in one line, and keeps what is done."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time

import pytest

from rankwise.core.records import read_record

WORDS = [
    *["--workers", "1", "--task.pretrain_epochs", "1", "--training.epochs", "60"],
    *["--compare.methods", "[{name: lora, r: 2}]", "--compare.learning_rates", "[1e-3]"],
    *["--compare.seeds", "[0, 1, 2, 3, 4, 5, 6, 7]"],
]


@pytest.mark.processes
def test_ctrl_c_keeps_what_is_done_and_says_how_to_go_on(tmp_path):
    command = [sys.executable, "-m", "rankwise.cli.main", "compare", "digits", *WORDS]
    process = subprocess.Popen(
        [*command, "--output", str(tmp_path)],
        start_new_session=True,
        # As in a terminal, also where these tests run in the background and inherit it as ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not list(tmp_path.glob("runs/*/record.json")):
        assert process.poll() is None, "it ended before it could be interrupted"
        time.sleep(0.02)
    # To all processes, as a terminal does it.
    os.killpg(process.pid, signal.SIGINT)
    printed, complaints = process.communicate(timeout=60)
    assert process.returncode == 130
    assert re.search(r"\d of \d runs done, and kept", printed)
    assert complaints.strip() == "interrupted; rerun the same command to resume"
    records = list(tmp_path.glob("runs/*/record.json"))
    assert len(records) < 8
    assert {read_record(record)["status"] for record in records} == {"done"}
