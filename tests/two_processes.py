"""Running a function in two processes that work together over gloo."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import distributed, multiprocessing

from tests import fork_server


def run_in_two(function: Callable[[int, Path], Any], folder: Path) -> tuple[Any, Any]:
    """Run ``function(rank, folder)`` in each process and return what both returned.

    ``function`` is a module's own, as a new process has to find it. It may come back with tensors
    and plain Python values.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    fork_server.start()
    multiprocessing.start_processes(
        _run, (port, function, folder), nprocs=2, start_method="forkserver"
    )
    first, second = (torch.load(folder / f"returned-{rank}.pt") for rank in (0, 1))
    return first, second


def _run(rank: int, port: int, function: Callable[[int, Path], Any], folder: Path) -> None:
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "GLOO_SOCKET_IFNAME": "lo",
    }
    torch.set_num_threads(1)
    distributed.init_process_group("gloo")
    try:
        torch.save(function(rank, folder), folder / f"returned-{rank}.pt")
    finally:
        distributed.destroy_process_group()
