"""The local pool runs every call, and passes errors on."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from functools import partial

import pytest

from rankwise.comparison.engines.local import LocalEngine
from rankwise.core.errors import TrainingError
from rankwise.core.interrupts import delayed_interrupt

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def engine():
    with LocalEngine(1) as engine:
        yield engine


def test_every_call_gives_a_result(engine):
    assert sorted(engine.run(math.pow, [(2, 3), (3, 2), (1, 1)])) == [1.0, 8.0, 9.0]


def test_an_error_in_a_worker_reaches_the_caller(engine):
    with pytest.raises(ValueError, match=r"math domain error|nonnegative"):
        list(engine.run(math.sqrt, [(-1.0,)]))


def mark(folder):
    (folder / str(os.getpid())).touch()


def wait_for_marks(folder, number):
    deadline = time.monotonic() + 60
    while len(list(folder.iterdir())) < number and time.monotonic() < deadline:
        time.sleep(0.05)
    return len(list(folder.iterdir()))


def test_workers_load_before_the_first_call_comes(tmp_path):
    with LocalEngine(1) as engine:
        engine.start(partial(mark, tmp_path))
        assert wait_for_marks(tmp_path, 1) == 1
        assert list(engine.run(os.getpid, [()])) == [int(next(tmp_path.iterdir()).name)]


def test_a_load_that_fails_keeps_no_call_from_its_result(engine):
    engine.start(miss_a_package)
    assert list(engine.run(math.pow, [(2, 3)])) == [8.0]


def miss_a_package():
    raise ImportError("not here")


def die_once(mark, number):
    """Kill the worker at the first call with number 1, and answer at every other."""
    if number == 1 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def die(_number):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.usefixtures("forked_workers")
def test_a_worker_that_dies_is_replaced_and_its_call_repeated(tmp_path):
    with LocalEngine(1) as engine:
        calls = [(tmp_path / "mark", number) for number in range(4)]
        assert sorted(engine.run(die_once, calls)) == [0, 1, 2, 3]


@pytest.mark.usefixtures("forked_workers")
def test_a_call_that_kills_every_worker_is_an_error():
    with LocalEngine(1) as engine, pytest.raises(TrainingError, match=r"died 3 times.*--workers"):
        list(engine.run(die, [(0,)]))


ABANDON = """
import os, pathlib, signal
from rankwise.comparison.engines.local import LocalEngine

if __name__ == "__main__":
    engine = LocalEngine(1)
    pathlib.Path("worker").write_text(str(next(engine.run(os.getpid, [()]))))
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_workers_do_not_outlive_a_parent_that_is_killed(tmp_path):
    (tmp_path / "abandon.py").write_text(ABANDON)
    ended = subprocess.run([sys.executable, "abandon.py"], cwd=tmp_path, check=False)
    assert ended.returncode == -signal.SIGKILL
    worker = int((tmp_path / "worker").read_text())
    for _ in range(100):
        if not _is_running(worker):
            return
        time.sleep(0.1)
    pytest.fail(f"worker {worker} still runs")


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def keep_when_asked(folder, number):
    """Stand for two trainings: one ends when the other has begun, which waits for a signal."""
    if not number:
        while not (folder / "begun").exists():
            time.sleep(0.01)
        return
    with delayed_interrupt() as received:
        (folder / "begun").touch()
        while not received:
            time.sleep(0.01)
        (folder / "kept").touch()


@pytest.mark.usefixtures("forked_workers")
def test_ctrl_c_lets_workers_keep_what_they_are_at(tmp_path):
    def interrupted() -> None:
        with LocalEngine(2) as engine:
            next(engine.run(keep_when_asked, [(tmp_path, 0), (tmp_path, 1)]))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert (tmp_path / "kept").exists()


AMID_A_RESULT = """
import os, pathlib, signal, threading, time
from multiprocessing.connection import Connection
from rankwise.comparison.engines.local import LocalEngine

def answer():
    send = Connection._send

    def slowly(self, part, *rest):
        send(self, part, *rest)
        if len(part) == 4:  # the length of what follows
            pathlib.Path("begun").touch()
            time.sleep(1)

    Connection._send = slowly
    return bytes(100_000)

def interrupt():
    while not pathlib.Path("begun").exists():
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGINT)

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=interrupt).start()
    with LocalEngine(1) as engine:
        list(engine.run(answer, [()]))
"""


def test_ctrl_c_amid_a_result_leaves_nobody_waiting_for_the_rest_of_it(tmp_path):
    (tmp_path / "amid.py").write_text(AMID_A_RESULT)
    command = [sys.executable, "amid.py"]
    ended = subprocess.run(
        command, cwd=tmp_path, check=False, timeout=60, capture_output=True, text=True
    )
    assert "KeyboardInterrupt" in ended.stderr
