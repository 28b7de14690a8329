"""Flower's programs for apps without the seconds that each spends on importing PyTorch and PEFT.

Flower starts ``flwr-clientapp`` for each message and ``flwr-serverapp`` for each run. Programs of
those names that :func:`write_programs` puts before its own on the path ask one process, which has
imported everything, to fork and go on as Flower's program in their place: with their arguments,
environment, folder and output.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import signal
import socket
import sys
from pathlib import Path

PROGRAMS = ("flwr-clientapp", "flwr-serverapp")
_LARGEST = 2**20

_PROGRAM = """\
#!{python} -IS
import json, os, socket, sys
asked = dict(name={name!r}, words=sys.argv[1:], environment=dict(os.environ), folder=os.getcwd())
with socket.socket(socket.AF_UNIX) as line:
    line.connect({address!r})
    socket.send_fds(line, [json.dumps(asked).encode()], [1, 2])
"""


def write_programs(folder: Path, address: str) -> None:
    """Write the programs, which ask at ``address``."""
    folder.mkdir()
    for name in PROGRAMS:
        program = folder / name
        program.write_text(_PROGRAM.format(python=sys.executable, name=name, address=address))
        program.chmod(0o755)


def serve(address: str) -> None:
    """Fork for each program that asks, for ever."""
    entries = importlib.metadata.entry_points(group="console_scripts")
    mains = {name: entries[name].load() for name in PROGRAMS}
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(address)
        listening.listen()
        while True:
            line, _ = listening.accept()
            with line:
                asked, outputs, _, _ = socket.recv_fds(line, _LARGEST, 2)
            if os.fork() == 0:
                listening.close()
                _become(json.loads(asked), outputs, mains)
            for output in outputs:
                os.close(output)


def _become(asked, outputs, mains):
    status = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for number, output in enumerate(outputs, start=1):
            os.dup2(output, number)
        os.environ.clear()
        os.environ.update(asked["environment"])
        os.chdir(asked["folder"])
        sys.argv = [asked["name"], *asked["words"]]
        mains[asked["name"]]()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    # What the apps of a federation import.
    import rankwise.federated.deployment  # noqa: F401

    serve(sys.argv[1])
