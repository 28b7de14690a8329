"""A comparison that is killed goes on where it stood, and ends as one that was never killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

from rankwise.cli.main import main
from rankwise.comparison.folder import read_summary

WORDS = [
    *["--workers", "1", "--task.pretrain_epochs", "1", "--training.epochs", "4"],
    *["--compare.methods", "[{name: lora, r: 2}, {name: rac-lora, r: 2}]"],
    *["--compare.learning_rates", "[1e-3, 1e-2]", "--compare.seeds", "[0, 1]"],
    *["--compare.widenings", "0"],
]


def test_the_table_is_the_same(tmp_path):
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    command = [sys.executable, "-m", "rankwise.cli.main", "compare", "digits", *WORDS]
    process = subprocess.Popen([*command, "--output", str(killed)], start_new_session=True)
    while not list(killed.glob("runs/*/record.json")):
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    records = list(killed.glob("runs/*/record.json"))
    assert 0 < len(records) < 8

    for folder in (killed, whole):
        assert main(["compare", "digits", *WORDS, "--output", str(folder)]) == 0
    for ours, theirs in zip(
        read_summary(killed)["methods"], read_summary(whole)["methods"], strict=True
    ):
        for key in ("name", "learning_rate", "scores", "score_validation", "stored_bytes"):
            assert ours[key] == theirs[key]
