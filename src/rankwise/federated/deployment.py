"""The same apps for clients on machines of their own: a Flower app that carries its plan.

A SuperLink takes the app from ``flwr run`` and hands it to its SuperNodes, so that server and
clients have one plan. Each machine keeps its base model, and the server its results, in the folder
that ``RANKWISE_FEDERATED`` names there.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from flwr.clientapp import ClientApp
from flwr.clientapp.typing import Mod
from flwr.serverapp import ServerApp

from rankwise.core.errors import SettingsError
from rankwise.core.records import write_text
from rankwise.federated.client import make_client_app
from rankwise.federated.server import make_server_app
from rankwise.training.settings.federation_plan import Plan

FOLDER_VARIABLE = "RANKWISE_FEDERATED"

_PROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "rankwise-federation"
version = "1.0.0"
description = "A federation of Rankwise"
license = "MIT"
dependencies = []

[tool.flwr.app]
publisher = "rankwise"

[tool.flwr.app.components]
serverapp = "federation:server_app"
clientapp = "federation:client_app"
"""

_APPS = '''\
"""The two apps of this federation; its plan travels with them."""

from rankwise.federated.deployment import client_app_of, server_app_of

PLAN = {plan!r}

server_app = server_app_of(PLAN)
client_app = client_app_of(PLAN)
'''


def write_app(plan: Plan, directory: Path) -> None:
    """Write the Flower app of ``plan``, for ``flwr run DIRECTORY``."""
    write_text(directory / "pyproject.toml", _PROJECT)
    write_text(directory / "federation.py", _APPS.format(plan=plan.model_dump_json()))


def server_app_of(plan: str) -> ServerApp:
    """Return the server app of a plan in JSON; results go to this machine's folder.

    Raises:
        SettingsError: The environment does not name the folder.
    """
    read = Plan.model_validate_json(plan)
    return make_server_app(read, _folder() / f"{read.run.method.title}-{read.digest}", _folder())


def client_app_of(plan: str, *, mods: Sequence[Mod] = ()) -> ClientApp:
    """Return the client app of a plan in JSON, with Flower's modifiers ``mods`` around it.

    Raises:
        SettingsError: The environment does not name the folder.
    """
    return make_client_app(Plan.model_validate_json(plan), _folder(), mods=mods)


def _folder() -> Path:
    if not (folder := os.environ.get(FOLDER_VARIABLE)):
        raise SettingsError(
            f"{FOLDER_VARIABLE} is not set: name a folder of this machine in it, for base models "
            "and results, before flower-superlink or flower-supernode is started"
        )
    return Path(folder)
