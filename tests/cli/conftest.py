"""What the tests of several commands begin with."""

from __future__ import annotations

from pathlib import Path

import pytest

from rankwise.training.run import train_run
from rankwise.training.settings.recipe import load_recipe


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """The folder of a finished run, the shortest that there is."""
    output = tmp_path_factory.mktemp("output")
    overrides = {"method": {"name": "lora", "r": 1}, "training": {"epochs": 1}}
    settings = load_recipe("digits", overrides).run()
    train_run(settings, output)
    return output / "runs" / settings.name
