"""A base model that is made once, and short runs on it."""

from __future__ import annotations

import pytest

from rankwise.tasks.digits import DigitsTask
from rankwise.training.settings.recipe import load_recipe


@pytest.fixture(scope="session")
def made_base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    DigitsTask(pretrain_epochs=2).base_model(folder / "base")
    return folder / "base"


@pytest.fixture
def output(tmp_path, made_base):
    """An output folder whose base model is there already."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "base").symlink_to(made_base)
    return tmp_path / "out"


@pytest.fixture
def settings():
    """Make the settings of a run of few epochs: ``settings("rac-lora", r=2, loop="trainer")``."""

    def make(name, *, r=2, seed=0, method=None, **training):
        return load_recipe(
            "digits",
            {
                "task": {"pretrain_epochs": 2},
                "method": {"name": name, "r": r, **(method or {})},
                "training": {"epochs": 3, "batch_size": 128, **training},
                "seed": seed,
            },
        ).run()

    return make
