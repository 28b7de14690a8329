"""A federation on one machine: Flower's simulation engine, whose clients are Ray's actors."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import ray
from flwr.clientapp.typing import Mod
from flwr.simulation import run_simulation

from rankwise.core.cores import usable_cores
from rankwise.core.interrupts import sigterm_kept
from rankwise.federated.client import make_client_app
from rankwise.federated.progress import Progress
from rankwise.federated.server import make_server_app
from rankwise.training.federation_records import FederationRecord
from rankwise.training.settings.federation_plan import Plan


def simulate(
    plan: Plan,
    folder: Path,
    cache: Path,
    *,
    workers: int | None = None,
    mods: Sequence[Mod] = (),
) -> FederationRecord:
    """Perform a federation and return its record; one that ``folder`` holds already goes on.

    Args:
        plan: What server and clients agree on.
        folder: Where the state and the record are written.
        cache: Where the base model is kept.
        workers: Clients that train at once; None is one a core.
        mods: Flower's modifiers around the client app.

    Raises:
        TrainingError: Too few clients are left; the state is saved.
    """
    with _quiet_flower():
        _start_ray(workers)  # which Flower then finds
        try:
            run_simulation(
                server_app=make_server_app(plan, folder, cache),
                client_app=make_client_app(plan, cache, mods=mods),
                num_supernodes=plan.federated.clients,
                backend_config={"client_resources": {"num_cpus": 1, "num_gpus": 0.0}},
            )
        finally:
            ray.shutdown()
    return FederationRecord.read(Progress(folder, plan).record)


def _start_ray(workers: int | None) -> None:
    """Start Ray as Flower would, but for SIGTERM, which stays with who hears it."""
    with sigterm_kept():
        ray.init(
            address="local",  # not a cluster that happens to run here
            num_cpus=workers or usable_cores(),
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env={"env_vars": {"PYTHONPATH": os.pathsep.join(sys.path)}},
        )


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
