"""What was interrupted under other settings is not gone on with, and not passed over in silence."""

from __future__ import annotations

import pytest

from rankwise.core.errors import SettingsError
from rankwise.training.folder import RunFolder
from rankwise.training.resuming import write_settings
from rankwise.training.run import train_run


def interrupted(run, output):
    write_settings(run, RunFolder(output, run.name))


def test_an_interrupted_run_of_other_settings_is_refused_with_what_differs(settings, output):
    interrupted(settings("lora", epochs=5, method={"adapter": {"dropout": 0.1}}), output)
    with pytest.raises(
        SettingsError,
        match=r"adapter\.dropout is 0\.1 there and 0\.0 here; training\.epochs is 5 there and 3",
    ):
        train_run(settings("lora"), output, resume=True)


def test_the_nearest_one_is_named(settings, output):
    interrupted(settings("lora", epochs=5), output)
    interrupted(settings("delora", epochs=5), output)
    with pytest.raises(
        SettingsError, match=r"has others: training\.epochs is 5 there and 3 here\."
    ):
        train_run(settings("lora"), output, resume=True)


def test_without_resume_a_new_run_begins(settings, output):
    interrupted(settings("lora", epochs=5), output)
    assert train_run(settings("lora"), output)["status"] == "done"


def test_another_seed_is_another_run_of_the_same_series(settings, output):
    interrupted(settings("lora", seed=1), output)
    assert train_run(settings("lora", seed=2), output, resume=True)["status"] == "done"


def test_a_finished_run_is_in_nobodys_way(settings, output):
    train_run(settings("lora", epochs=1), output)
    assert train_run(settings("lora"), output, resume=True)["status"] == "done"
