"""A federation on one machine: Flower's simulation engine, whose clients are Ray's actors."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import ray
from flwr.clientapp.typing import Mod
from flwr.simulation import run_simulation

from rankwise.core.records import read_record
from rankwise.federated.client import make_client_app
from rankwise.federated.progress import Progress
from rankwise.federated.server import make_server_app
from rankwise.federated.settings import Plan


@contextlib.contextmanager
def simulation_engine(workers: int | None = None) -> Iterator[None]:
    """Keep one Ray of this machine for the simulations within; ``workers`` clients train at once.

    One that this process has already is used and left alone.
    """
    is_ours = not ray.is_initialized()
    if is_ours:
        ray.init(
            address="local",  # not a cluster that happens to run here
            num_cpus=workers or os.cpu_count(),
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    try:
        yield
    finally:
        if is_ours:
            ray.shutdown()


def simulate(plan: Plan, folder: Path, cache: Path, *, mods: Sequence[Mod] = ()) -> dict[str, Any]:
    """Perform a federation in :func:`simulation_engine` and return its record.

    A federation that ``folder`` holds already goes on; one that is done is returned as recorded.

    Args:
        plan: What server and clients agree on.
        folder: Where the state and the record are written.
        cache: Where the base model is kept.
        mods: Flower's modifiers around the client app.

    Raises:
        TrainingError: Too few clients are left; the state is saved.
    """
    with _quiet_flower():
        run_simulation(
            server_app=make_server_app(plan, folder, cache),
            client_app=make_client_app(plan, cache, mods=mods),
            num_supernodes=plan.federated.clients,
            backend_config={"client_resources": {"num_cpus": 1, "num_gpus": 0.0}},
        )
    return read_record(Progress(folder, plan).record)


@contextlib.contextmanager
def _quiet_flower() -> Iterator[None]:
    """Silence Flower's log: the server says itself which clients were left out, and why."""
    flower = logging.getLogger("flwr")
    level = flower.level
    flower.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        flower.setLevel(level)
