"""A base model that is made once, and plans of few clients and rounds on it."""

from __future__ import annotations

import pytest

from rankwise.federated import federate
from rankwise.federated.client import make_client_app
from rankwise.federated.server import Server
from rankwise.tasks.digits import DigitsTask
from rankwise.training.settings.federated import FederatedSettings
from rankwise.training.settings.federation_plan import Plan
from rankwise.training.settings.recipe import settings_of_run
from tests.federated.local_grid import LocalGrid


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    """A folder whose base model is there already."""
    folder = tmp_path_factory.mktemp("federated")
    DigitsTask(pretrain_epochs=2).base_model(folder / "base")
    return folder


@pytest.fixture(scope="session")
def plan_of():
    """Make a plan: ``plan_of("rac-lora", clients=2, rounds=3)``."""

    def make(name, *, r=2, method=None, training=None, **federated):
        ranks = {"adapter": {"rank_pattern": {"layers.4": 5}}} if name == "lora-sb" else {}
        run = settings_of_run(
            {
                "task": {"name": "digits", "pretrain_epochs": 2},
                "method": {"name": name, "r": r, **ranks, **(method or {})},
                "training": {"batch_size": 64, "learning_rate": 1e-2, **(training or {})},
            }
        )
        return Plan(run=run, federated=FederatedSettings(**{"min_clients": 1} | federated))

    return make


@pytest.fixture
def faults(monkeypatch):
    """Let the clients answer in this process; a test may break some."""
    faults = {}

    def simulate(plan, folder, cache, *, workers):
        grid = LocalGrid(make_client_app(plan, cache), plan.federated.clients, faults)
        return Server(plan, folder, cache).run(grid)

    monkeypatch.setattr(federate, "simulate", simulate)
    return faults
