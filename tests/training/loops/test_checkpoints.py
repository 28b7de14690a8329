"""A checkpoint that was not written to its end is never read."""

from __future__ import annotations

import pytest

from rankwise.training.loops.trainer import MARK, finish_checkpoint, last_checkpoint


@pytest.fixture
def folder(tmp_path):
    for step in (5, 10, 15):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "trainer_state.json").touch()
    return tmp_path


def names(folder) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


def test_the_newest_whole_one_is_taken_and_parts_of_newer_ones_go(folder):
    for step in (5, 10):
        (folder / f"checkpoint-{step}" / MARK).touch()
    assert last_checkpoint(folder) == str(folder / "checkpoint-10")
    assert names(folder) == ["checkpoint-10", "checkpoint-5"]


def test_without_a_whole_one_training_starts_again(folder, tmp_path):
    assert last_checkpoint(tmp_path / "nowhere") is None
    assert last_checkpoint(folder) is None
    assert names(folder) == []


def test_older_ones_are_deleted_but_the_best(folder):
    finish_checkpoint(folder, 15, keep=2, best=None)
    assert names(folder) == ["checkpoint-10", "checkpoint-15"]
    assert last_checkpoint(folder) == str(folder / "checkpoint-15")


def test_the_best_one_stays(folder):
    finish_checkpoint(folder, 15, keep=2, best=str(folder / "checkpoint-5"))
    assert names(folder) == ["checkpoint-15", "checkpoint-5"]


def test_what_is_left_of_an_interrupted_deletion_is_not_taken_for_the_newest(folder):
    for step in (10, 15):
        (folder / f"checkpoint-{step}" / MARK).touch()
    (folder / "checkpoint-5" / "trainer_state.json").unlink()  # its time is the latest now
    assert last_checkpoint(folder) == str(folder / "checkpoint-15")
    (folder / "checkpoint-20").mkdir()
    finish_checkpoint(folder, 20, keep=2, best=None)
    assert names(folder) == ["checkpoint-15", "checkpoint-20"]
