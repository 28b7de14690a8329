"""What was interrupted under other settings is not gone on with, and not passed over in silence."""

from __future__ import annotations

import pytest

from rankwise.core.errors import SettingsError
from rankwise.core.records import read_record, write_record
from rankwise.training.folder import RunFolder
from rankwise.training.interrupted import keep_settings, refuse_other_run
from rankwise.training.run import train_run
from rankwise.training.settings.recipe import load_recipe

pytestmark = pytest.mark.runs


def interrupted(run, output):
    keep_settings(run, RunFolder.below(output, run.name))


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
    assert train_run(settings("lora"), output).status == "done"


def test_another_seed_is_another_run_of_the_same_series(settings, output):
    interrupted(settings("lora", seed=1), output)
    assert train_run(settings("lora", seed=2), output, resume=True).status == "done"


def test_a_setting_that_came_later_has_its_default_in_what_was_interrupted_before(tmp_path):
    run = load_recipe("glue-tutorial").run()
    folder = RunFolder.below(tmp_path, run.name)
    keep_settings(run, folder)
    tree = read_record(folder.settings)["settings"]
    del tree["task"]["dtype"]
    write_record(folder.settings, {"settings": tree})
    refuse_other_run(run.model_copy(update={"seed": 1}), tmp_path)
    with pytest.raises(SettingsError, match=r"has others: task\.dtype is 'float32' there and 'b"):
        refuse_other_run(
            load_recipe("glue-tutorial", {"task": {"dtype": "bfloat16"}}).run(), tmp_path
        )


def test_a_finished_run_is_in_nobodys_way(settings, output):
    train_run(settings("lora", epochs=1), output)
    assert train_run(settings("lora"), output, resume=True).status == "done"
