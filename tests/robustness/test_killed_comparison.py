"""A comparison that any signal ends goes on where it stood, and ends as one never interrupted.

``make kill-trials`` makes more of them; RANKWISE_KILL_TRIALS says how many, five for one here.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from rankwise.cli.main import main
from rankwise.comparison.engines import local
from rankwise.comparison.folder import read_summary

from .mortal import SIGNALS, listen

pytestmark = pytest.mark.processes
WORDS = [
    *["--workers", "1", "--task.pretrain_epochs", "1", "--training.epochs", "4"],
    *["--compare.methods", "[{name: lora, r: 2}, {name: rac-lora, r: 2}]"],
    *["--compare.learning_rates", "[1e-3, 1e-2]", "--compare.seeds", "[0, 1]"],
    *["--compare.widenings", "0"],
]


KEYS = ("name", "learning_rate", "scores", "score_validation", "stored_bytes")
TRIALS = max(1, int(os.environ.get("RANKWISE_KILL_TRIALS", "4")) // 5)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, _fork_server) -> list[list]:
    """The table of a comparison that was never killed."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local, "START_METHOD", "forkserver")
        assert main(["compare", "digits", *WORDS, "--output", str(folder)]) == 0
    return table(folder)


def table(folder: Path) -> list[list]:
    return [[getattr(row, key) for key in KEYS] for row in read_summary(folder).methods]


def started(output: Path, *, records: int) -> subprocess.Popen[bytes]:
    """Start the comparison, and return once so many of its runs are done."""
    command = [sys.executable, "-m", "rankwise.cli.main", "compare", "digits", *WORDS]
    process = subprocess.Popen(
        [*command, "--output", str(output)], start_new_session=True, preexec_fn=listen
    )
    while len(list(output.glob("runs/*/record.json"))) < records:
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.01)
    return process


@pytest.mark.usefixtures("forked_workers")
@pytest.mark.parametrize("trial", range(TRIALS))
def test_the_table_is_the_same(tmp_path, whole, trial):
    generator = random.Random(trial)
    records, pause = 1 + generator.randrange(7), generator.uniform(0, 0.3)
    process = started(tmp_path, records=records)
    time.sleep(pause)  # into the middle of the next run, or of the table
    os.killpg(process.pid, SIGNALS[trial % len(SIGNALS)])
    process.wait()
    assert main(["compare", "digits", *WORDS, "--output", str(tmp_path)]) == 0
    assert table(tmp_path) == whole


@pytest.mark.slow
def test_a_worker_that_is_killed_costs_time_and_nothing_else(tmp_path, whole):
    process = started(tmp_path, records=1)
    (worker,) = (
        child
        for child in psutil.Process(process.pid).children()
        if "spawn_main" in " ".join(child.cmdline())
    )
    worker.kill()
    assert process.wait() == 0
    assert table(tmp_path) == whole
