"""The same apps as processes of their own, which speak to each other on loopback addresses."""

from __future__ import annotations

import contextlib
import os
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp

from rankwise.core.errors import SettingsError
from rankwise.federated.deployment import FOLDER_VARIABLE, write_app
from rankwise.federated.progress import SavedProgress
from rankwise.training.federation_records import FederationRecord
from tests.federated import broken_clients, warm_start
from tests.federated.test_server import federate, rounds_but_for

BIN = Path(sys.executable).parent
INSECURE = ("--insecure", "--host", "127.0.0.1")

QUICK_SUPERNODE = """\
from flwr.common import constant
constant.HEARTBEAT_DEFAULT_INTERVAL = constant.HEARTBEAT_MIN_INTERVAL
from flwr.supernode.cli import flower_supernode
flower_supernode()
"""
"""A SuperNode whose heart beats as often as a SuperLink allows: its death is known in 20 seconds
instead of 60."""

LIMIT_SECONDS = 200
"""After so long without what is awaited, a test fails."""


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


class Machines:
    """A SuperLink and two SuperNodes on loopback addresses, each with a folder of its own.

    Flower's programs for apps are warm (``warm_start.py``).
    """

    def __init__(self, folder, cache, stack):
        self.folder, self._cache, self._stack = folder, cache, stack
        warm = stack.enter_context(tempfile.TemporaryDirectory())  # addresses must be short
        warm_start.write_programs(folder / "bin", f"{warm}/line")
        self._environment = os.environ | {
            "FLWR_HOME": str(folder / "flower"),
            "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.2",
            "PATH": os.pathsep.join([str(folder / "bin"), str(BIN), os.environ["PATH"]]),
            "PYTHONWARNINGS": "ignore",
        }
        self.start(sys.executable, warm_start.__file__, f"{warm}/line", name="warm")
        self._link = free_port()
        (folder / "flower").mkdir()
        (folder / "flower" / "config.toml").write_text(
            f'[superlink]\ndefault = "here"\n[superlink.here]\naddress = "127.0.0.1:{self._link}"\n'
            "insecure = true\n"
        )
        server = ("--port", str(self._link), "--disable-runtime-dependency-installation")
        self.start("flower-superlink", *INSECURE, *server, name="server")
        self.clients = [self.start_client(number) for number in range(2)]
        wait_for(Path(f"{warm}/line").exists, self)

    def start(self, program, *arguments, name):
        """Start a program in the folder of its name; it ends with the test at the latest."""
        home = self.folder / name
        shutil.copytree(self._cache / "base", home / "base", dirs_exist_ok=True)
        process = subprocess.Popen(
            [program, *arguments],
            cwd=home,
            env=self._environment | {FOLDER_VARIABLE: str(home)},
            stdout=self._stack.enter_context(self.log(name).open("a")),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._stack.callback(stop, process)
        return process

    def start_client(self, number):
        node = ("--superlink", f"127.0.0.1:{self._link}", "--node-config", f"partition-id={number}")
        port = ("--port", str(free_port()))
        quick = (sys.executable, "-c", QUICK_SUPERNODE)
        return self.start(*quick, *INSECURE, *port, *node, name=f"client-{number}")

    def run(self, app):
        """Hand an app to the SuperLink; what its server logs comes back while it runs."""
        return self.start("flwr", "run", str(app), "here", "--stream", name="run")

    def log(self, name):
        return self.folder / name / "log"


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def stop(process):
    """End a program and all that it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def wait_for(happened, machines):
    end = time.monotonic() + LIMIT_SECONDS
    while not happened():
        logs = {file.parent.name: file.read_text() for file in machines.folder.glob("*/log")}
        assert time.monotonic() < end, logs
        time.sleep(0.1)


@pytest.fixture
def machines(tmp_path, cache):
    with contextlib.ExitStack() as stack:
        yield Machines(tmp_path, cache, stack)


@pytest.mark.processes
def test_a_killed_machine_is_left_out_and_the_federation_goes_on_once_it_is_back(
    machines, plan_of, cache, tmp_path
):
    plan = plan_of("rac-lora", clients=2, rounds=2, min_clients=2, timeout_seconds=LIMIT_SECONDS)
    write_app(plan, tmp_path / "app")
    shutil.copy(broken_clients.__file__, tmp_path / "app")
    with (tmp_path / "app" / "federation.py").open("a") as app:
        app.write(
            "from broken_clients import second_lingers_in_second_round\n"
            "client_app = client_app_of(PLAN, mods=[second_lingers_in_second_round])\n"
        )
    run = machines.run(tmp_path / "app")
    wait_for((tmp_path / "client-1" / "lingers").exists, machines)
    machines.clients[1].kill()
    run.wait(LIMIT_SECONDS)
    told = machines.log("run").read_text()
    assert "round 2: client 1 is left out: it failed: Error: Node Unavailable" in told
    assert "bring clients back, and go on with --resume" in told
    results = tmp_path / "server" / f"rac-lora-{plan.digest}"
    assert [each.number for each in SavedProgress.read(results / "progress.json").rounds] == [0, 1]

    machines.start_client(1)
    machines.run(tmp_path / "app").wait(LIMIT_SECONDS)
    whole, _ = federate(plan, tmp_path / "at-hand", cache)
    assert rounds_but_for(FederationRecord.read(results / "record.json")) == rounds_but_for(whole)
