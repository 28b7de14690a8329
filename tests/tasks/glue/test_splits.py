"""The cuts of GLUE's rows: published sizes, the released code's rows, nothing lost or shared."""

from __future__ import annotations

import numpy as np
import pytest

from rankwise.core.errors import DataError, SettingsError
from rankwise.tasks.glue.definitions import find_definition
from rankwise.tasks.glue.splits import held_out, revisited, some_rows


def cut(name, rows, seed=42):
    definition = find_definition(name)
    return revisited(
        rows,
        seed,
        validation_rows=definition.validation_rows,
        is_swapped=definition.is_swapped,
    )


@pytest.mark.parametrize(
    ("name", "dev", "validation", "test"),
    [
        ("mnli", 9815, 1000, 8815),
        ("sst2", 872, 436, 436),
        ("mrpc", 408, 204, 204),
        ("cola", 1043, 522, 521),
        ("qnli", 5463, 1000, 4463),
        ("qqp", 40430, 1000, 39430),
        ("rte", 277, 139, 138),
        ("stsb", 1500, 750, 750),
    ],
)
def test_revisited_sizes_are_the_published_ones(name, dev, validation, test):
    ours = cut(name, dev)
    assert [len(part) for part in ours] == [validation, test]
    assert sorted(ours[0] + ours[1]) == list(range(dev))


def test_revisited_rows_are_those_of_the_released_code():
    order = np.random.RandomState(43).permutation(408).tolist()
    assert cut("mrpc", 408, seed=43) == (order[:204], order[204:])


def test_the_halves_of_cola_are_swapped():
    order = np.random.RandomState(42).permutation(1043).tolist()
    assert cut("cola", 1043) == (order[521:], order[:521])


def test_a_cut_depends_on_its_seed_alone():
    assert cut("mrpc", 408) == cut("mrpc", 408) != cut("mrpc", 408, seed=43)
    assert held_out(50, 1) == held_out(50, 1) != held_out(50, 2)


def test_held_out_cuts_three_ways():
    parts = held_out(1009, seed=0)
    assert [len(part) for part in parts] == [809, 100, 100]
    assert sorted(row for part in parts for row in part) == list(range(1009))


def test_fewer_training_rows_are_a_part_of_more():
    few, more = some_rows(100, 10, seed=0), some_rows(100, 30, seed=0)
    assert len(few) == 10
    assert set(few) < set(more)
    assert few == sorted(few)
    assert some_rows(100, 100, seed=0) == list(range(100))
    assert some_rows(100, 10, seed=1) != few


def test_the_dev_rows_must_be_enough():
    with pytest.raises(DataError, match=r"takes 1000 rows of the dev split .* got 1000 rows"):
        cut("mnli", 1000)
    with pytest.raises(DataError, match=r"takes 1 rows .* got 1 rows"):
        cut("rte", 1)
    with pytest.raises(DataError, match="at least 10 rows, got 9"):
        held_out(9, seed=0)


@pytest.mark.parametrize("rows", [0, -1, 101])
def test_the_training_rows_must_be_there(rows):
    with pytest.raises(SettingsError, match=f"between 1 and 100 .* got {rows}"):
        some_rows(100, rows, seed=0)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_the_seed_must_be_one_that_numpy_takes(seed):
    with pytest.raises(SettingsError, match="split_seed must be between 0 and 4294967295"):
        cut("mrpc", 408, seed=seed)
