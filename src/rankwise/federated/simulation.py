"""A federation on one machine: Flower's simulation engine, whose clients are Ray's actors."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from flwr.clientapp.typing import Mod
from flwr.simulation import run_simulation

from rankwise.core.runtime import usable_cores
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
    init: dict[str, Any] = {
        "address": "local",  # not a cluster that happens to run here
        "num_cpus": workers or usable_cores(),
        "log_to_driver": False,
        "logging_level": logging.ERROR,
    }
    with _quiet_flower():
        run_simulation(
            server_app=make_server_app(plan, folder, cache),
            client_app=make_client_app(plan, cache, mods=mods),
            num_supernodes=plan.federated.clients,
            backend_config={
                "init_args": init,
                "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
            },
        )
    return FederationRecord.read(Progress(folder, plan).record)


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
