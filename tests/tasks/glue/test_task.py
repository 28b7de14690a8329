"""The rows of a task are read once for all runs of a process that see the same ones."""

from __future__ import annotations

import pytest

from rankwise.tasks.duplicates import told_duplicates
from rankwise.tasks.glue.classes import GlueClasses
from tests.models.saved import make_bert
from tests.tasks.glue.glue_files import MRPC_HEADER, mrpc_rows, write_mrpc, write_rows


@pytest.fixture
def task(tmp_path):
    """Make a task: ``task(split_seed=1)``."""
    root = write_mrpc(tmp_path, train=6, dev=8, test_labelled=4)
    model = make_bert(tmp_path / "bert", ["train 1 other"])

    def make(**choices):
        return GlueClasses("mrpc", model, data_root=root, max_length=16, **choices)

    return make


def test_runs_of_other_heads_and_dtypes_share_their_rows(task):
    assert task(head_seed=1).splits() is task(head_seed=2, dtype="bfloat16").splits()


@pytest.mark.parametrize("choice", [{"split_seed": 1}, {"rows": 4}, {"protocol": "official"}])
def test_rows_that_are_cut_otherwise_are_others(task, choice):
    assert task().splits() is not task(**choice).splits()


def test_the_head_is_still_the_one_of_its_own_seed(task):
    first, second = (task(head_seed=seed).base_model(None).classifier.weight for seed in (1, 2))
    assert not first.equal(second)


def test_texts_that_stand_in_two_splits_are_counted(task, tmp_path):
    """Dev begins as training does: two of its eight rows are the first two there."""
    rows = [MRPC_HEADER, *mrpc_rows(2, "train"), *mrpc_rows(6, "dev")]
    write_rows(tmp_path / "glue" / "MRPC" / "dev.tsv", rows)
    facts = task(protocol="official", split_seed=5).splits().facts
    assert (facts["validation"]["duplicates_of_train"], facts["validation"]["rows"]) == (2, 8)
    assert facts["test"]["duplicates_of_train"] == 0
    (told,) = told_duplicates(facts)
    assert told == "2 of the 8 rows of validation stand in training too: a score on these is memory"
