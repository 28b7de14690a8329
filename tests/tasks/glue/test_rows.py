"""Three splits by protocol, from local files or the Hub, each with its source."""

from __future__ import annotations

import pytest

from rankwise.core.errors import DataError, SettingsError
from rankwise.tasks.glue import rows as module
from rankwise.tasks.glue.examples import Example, Part
from rankwise.tasks.glue.rows import read_glue
from tests.tasks.glue.glue_files import write_mrpc


@pytest.fixture
def root(tmp_path):
    return write_mrpc(tmp_path / "data", train=30, dev=9, test_labelled=5)


def texts(examples):
    return {example.texts[0] for example in examples}


def test_revisited_cuts_validation_and_test_out_of_dev(root):
    splits = read_glue("mrpc", root=root, protocol="revisited")
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (30, 5, 4)
    both = texts(splits.validation) | texts(splits.test)
    assert both == {f"dev {row}" for row in range(9)}
    assert splits.sources == {
        "train": "glue/MRPC/train.tsv",
        "validation": "5 of the 9 rows of glue/MRPC/dev.tsv",
        "test": "4 of the 9 rows of glue/MRPC/dev.tsv",
    }


def test_official_takes_the_three_files(root):
    splits = read_glue("mrpc", root=root, protocol="official")
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (30, 9, 5)
    assert splits.sources["test"] == "glue/MRPC/test_labelled.tsv"


def test_official_needs_test_labels(tmp_path):
    root = write_mrpc(tmp_path, train=3, dev=3)
    with pytest.raises(DataError, match=r"no test split of mrpc .* choose protocol 'revisited'"):
        read_glue("mrpc", root=root, protocol="official")


def test_held_out_cuts_all_out_of_train(root):
    splits = read_glue("mrpc", root=root, protocol="held-out")
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (24, 3, 3)
    assert splits.sources["test"] == "3 of the 30 rows of glue/MRPC/train.tsv"


def test_held_out_takes_dev_where_there_is_no_train(tmp_path):
    splits = read_glue("mrpc", root=write_mrpc(tmp_path, dev=20), protocol="held-out")
    assert splits.sources["train"] == "16 of the 20 rows of glue/MRPC/dev.tsv"


def test_training_rows_can_be_limited(root):
    limited = read_glue("mrpc", root=root, protocol="revisited", rows=6)
    assert len(limited.train) == 6
    assert limited.sources["train"] == "6 of the 30 rows of glue/MRPC/train.tsv"
    assert limited.test == read_glue("mrpc", root=root, protocol="revisited").test


def test_another_seed_cuts_other_rows(root):
    first, second = (read_glue("mrpc", root=root, split_seed=seed) for seed in (42, 43))
    assert texts(first.validation) != texts(second.validation)
    assert first.train == second.train


def test_without_a_root_rows_come_from_the_hub(monkeypatch):
    def read_hub(definition, split):
        rows = [Example((f"{split} {row}",), row % 2) for row in range(10)]
        return Part(rows, f"Hub {definition.name} {split}")

    monkeypatch.setattr(module, "read_hub", read_hub)
    splits = read_glue("sst2", protocol="official")
    assert splits.test[3] == Example(("test 3",), 1)
    assert splits.sources["validation"] == "Hub sst2 validation"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "mrcp"}, "no GLUE task is called 'mrcp': did you mean 'mrpc'"),
        ({"protocol": "revisit"}, "called 'revisit': did you mean 'revisited'"),
        ({"rows": 31}, "rows must be between 1 and 30 .* got 31"),
        ({"split_seed": -1}, "split_seed must be between 0 and"),
    ],
)
def test_a_wrong_setting_is_refused(root, settings, message):
    with pytest.raises(SettingsError, match=message):
        read_glue(**{"name": "mrpc", "root": root} | settings)


@pytest.mark.parametrize(
    ("name", "protocol", "sizes"),
    [
        ("mrpc", "revisited", (3668, 204, 204)),
        ("mrpc", "official", (3668, 408, 1725)),
        ("cola", "revisited", (8551, 522, 521)),
        ("stsb", "revisited", (5749, 750, 750)),
        ("qqp", "held-out", (18799, 2349, 2349)),
        ("qnli", "held-out", (4371, 546, 546)),
        ("mnli", "held-out", (800, 100, 100)),
    ],
)
def test_the_real_files_have_the_published_sizes(real_data, name, protocol, sizes):
    splits = read_glue(name, root=real_data, protocol=protocol)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == sizes
