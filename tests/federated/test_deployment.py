"""The same apps as processes of their own, which speak to each other on loopback addresses.

Each message starts a process there, so the last test takes minutes; it runs where
RANKWISE_FEDERATED_PROCESSES is set.
"""

from __future__ import annotations

import contextlib
import os
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp

from rankwise.core.errors import SettingsError
from rankwise.core.records import read_record
from rankwise.federated.deployment import FOLDER_VARIABLE, write_app
from tests.federated.test_server import federate, without_seconds

BIN = Path(sys.executable).parent


def test_the_app_carries_its_plan(plan_of, tmp_path, monkeypatch):
    write_app(plan_of("rac-lora", clients=3), tmp_path)
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "here"))
    apps = runpy.run_path(str(tmp_path / "federation.py"))
    assert isinstance(apps["server_app"], ServerApp)
    assert isinstance(apps["client_app"], ClientApp)


def test_a_machine_must_name_its_folder(plan_of, tmp_path, monkeypatch):
    write_app(plan_of("rac-lora", clients=3), tmp_path)
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    with pytest.raises(SettingsError, match="RANKWISE_FEDERATED is not set"):
        runpy.run_path(str(tmp_path / "federation.py"))


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.fixture
def started(tmp_path, cache):
    """Start a program of Flower's in a folder of its own; all are stopped at the end."""
    environment = os.environ | {
        "FLWR_HOME": str(tmp_path / "flower"),
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "PYTHONWARNINGS": "ignore",
    }
    with contextlib.ExitStack() as stack:

        def start(program, *arguments, folder):
            home = tmp_path / folder
            home.mkdir(exist_ok=True)
            shutil.copytree(cache / "base", home / "base", dirs_exist_ok=True)
            log = stack.enter_context((home / "log").open("w"))
            process = subprocess.Popen(
                [str(BIN / program), *arguments],
                cwd=home,
                env=environment | {FOLDER_VARIABLE: str(home)},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            stack.callback(stop, process)
            return process

        yield start


def stop(process):
    """End a program and all that it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.slow
@pytest.mark.skipif(
    "RANKWISE_FEDERATED_PROCESSES" not in os.environ, reason="takes minutes; set it to run this"
)
def test_three_processes_on_loopback_do_what_clients_at_hand_do(started, plan_of, cache, tmp_path):
    plan = plan_of("rac-lora", clients=3, rounds=2, timeout_seconds=300)
    write_app(plan, tmp_path / "app")
    link = free_port()
    (tmp_path / "flower").mkdir()
    (tmp_path / "flower" / "config.toml").write_text(
        f'[superlink]\ndefault = "here"\n[superlink.here]\naddress = "127.0.0.1:{link}"\n'
        "insecure = true\n"
    )
    insecure = ("--insecure", "--host", "127.0.0.1", "--port")
    server = ("flower-superlink", *insecure, str(link), "--disable-runtime-dependency-installation")
    started(*server, folder="server")
    for i in range(3):
        node = ("--superlink", f"127.0.0.1:{link}", "--node-config", f"partition-id={i}")
        started("flower-supernode", *insecure, str(free_port()), *node, folder=f"client-{i}")
    end = time.monotonic() + 600
    while started("flwr", "run", str(tmp_path / "app"), "here", folder="run").wait() != 0:
        assert time.monotonic() < end, (tmp_path / "run" / "log").read_text()
        time.sleep(2)
    record = tmp_path / "server" / f"rac-lora-{plan.digest}" / "record.json"
    while not record.exists():
        assert time.monotonic() < end, (tmp_path / "server" / "log").read_text()
        time.sleep(0.5)
    at_hand, _ = federate(plan, tmp_path / "at-hand", cache)
    assert without_seconds(read_record(record)) == without_seconds(at_hand)
