"""What holds for all tests: no clock, one seed, real data by one fixture, processes by a mark."""

from __future__ import annotations

import gc
import multiprocessing.process
import os
import subprocess
import sys
import warnings
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, settings

from rankwise.core import plugins
from tests import fork_server

settings.register_profile(
    "repeatable", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("repeatable")

# Before anything of the Hub is imported: no test fetches, and none waits for what does not answer.
os.environ["HF_HUB_OFFLINE"] = "1"

BESIDE_THE_CHECKOUT = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder of real data, laid out as ``<family>/<task>/<split>.*``."""
    named = os.environ.get("RANKWISE_TEST_DATA")
    folder = Path(named) if named else BESIDE_THE_CHECKOUT
    if not folder.is_dir():
        if named:
            pytest.fail(f"RANKWISE_TEST_DATA names {named}, which is no folder")
        pytest.skip("no real data: name its folder in RANKWISE_TEST_DATA (CI has it)")
    return folder


@pytest.fixture(autouse=True)
def seed_random_numbers() -> None:
    """Let a test that draws without a generator be the same alone and among others."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def forget_plugins(monkeypatch) -> None:
    """Let no test's plugins be loaded by the workers of another."""
    monkeypatch.setattr(plugins, "_LOADED", list(plugins._LOADED))


@pytest.fixture(autouse=True)
def refuse_unmarked_processes(request, monkeypatch) -> None:
    """Let tests without the mark start no Python: the imports of one cost more than most tests."""
    if any(request.node.iter_markers("processes")):
        return
    started = subprocess.Popen.__init__

    def start(self: subprocess.Popen, args: Any, *others: Any, **options: Any) -> None:
        if sys.executable in (args if isinstance(args, list | tuple) else [args]):
            refuse()
        started(self, args, *others, **options)

    def refuse(*_: object) -> None:
        pytest.fail("this test starts a process: mark it with @pytest.mark.processes")

    monkeypatch.setattr(subprocess.Popen, "__init__", start)
    monkeypatch.setattr(multiprocessing.process.BaseProcess, "start", refuse)


@pytest.fixture(scope="session")
def _fork_server() -> None:
    fork_server.start()  # before a test has changed the environment that it keeps


@pytest.fixture
def forked_workers(_fork_server, monkeypatch) -> None:
    """Let a comparison fork its workers: the imports of a spawned one cost more than its runs."""
    monkeypatch.setattr("rankwise.comparison.engines.local.START_METHOD", "forkserver")


def pytest_collection_finish() -> None:
    """Take what the imports have left out of garbage collection.

    Accelerate collects garbage in each training, which takes over a second among so many objects.
    """
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, Any, Any]:
    """Import the tests without turning what other packages say meanwhile into errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        warnings.filterwarnings("error", module=r"(rankwise|tests)\b")
        return (yield)
