"""Splits are cut by a seed, class by class; what stands on both sides is counted and refused."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankwise.core.errors import DataError
from rankwise.tasks.own.division import Cut, divide


def divided(given, **cut):
    return divide(
        given, Cut(**cut), key=lambda row: row[0], stratum=lambda row: row[1], place="a.csv"
    )


@given(
    st.lists(st.tuples(st.integers(0, 30), st.sampled_from("ab")), min_size=1, max_size=80),
    st.integers(0, 9),
)
def test_a_cut_loses_no_row_and_puts_no_input_on_two_sides(rows, seed):
    rows = [*rows, *[(100 + n, "ab"[n % 2]) for n in range(12)]]
    parts = divided({"train": rows}, seed=seed).rows
    assert Counter(row for part in parts.values() for row in part) == Counter(rows)
    inputs = [{key for key, _ in part} for part in parts.values()]
    assert not (inputs[0] & inputs[1])
    assert not (inputs[0] & inputs[2])
    assert not (inputs[1] & inputs[2])
    assert all(parts.values())


def test_a_cut_keeps_the_shares_of_the_classes():
    rows = [(n, "a" if n < 80 else "b") for n in range(100)]
    parts = divided({"train": rows}, held_out=0.2).rows
    assert {split: Counter(name for _, name in part) for split, part in parts.items()} == {
        "train": {"a": 48, "b": 12},
        "validation": {"a": 16, "b": 4},
        "test": {"a": 16, "b": 4},
    }


def test_a_seed_gives_the_same_cut_and_another_seed_another():
    rows = [(n, "ab"[n % 2]) for n in range(40)]
    first, same, other = (divided({"train": rows}, seed=seed).rows for seed in (0, 0, 1))
    assert first == same
    assert first["test"] != other["test"]


def test_only_what_is_missing_is_cut():
    test = [(100, "a")]
    found = divided({"train": [(n, "ab"[n % 2]) for n in range(20)], "test": test})
    assert found.rows["test"] == test
    assert (len(found.rows["validation"]), len(found.rows["train"])) == (2, 18)
    assert (found.facts["validation"]["cut"], found.facts["test"]["cut"]) == (True, False)


def test_rows_that_repeat_are_counted():
    rows = [(n % 10, "a") for n in range(15)]
    assert divided({"train": rows}).facts["train"]["repeated"] == 5


def test_given_splits_that_share_rows_are_counted_and_refused_above_a_share():
    train, held_out = [(n, "a") for n in range(20)], [(n, "a") for n in range(19, 29)]
    parts = {"train": train, "validation": held_out, "test": held_out}
    found = divided(parts, max_duplicates=0.1)
    assert found.facts["validation"] == {"rows": 10, "duplicates_of_train": 1, "cut": False}
    with pytest.raises(
        DataError,
        match=r"1 of the 10 rows of validation stand in training too, more than 5%: .*"
        r"--task\.max_duplicates 0\.1",
    ):
        divided(parts)


def test_fewer_rows_are_a_part_of_more():
    rows = [(n, "ab"[n % 2]) for n in range(40)]
    few, more = (set(divided({"train": rows}, rows=count).rows["train"]) for count in (5, 10))
    assert few < more
    with pytest.raises(DataError, match=r"task\.rows must be at most 32, .* got 33"):
        divided({"train": rows}, rows=33)


def test_a_data_set_of_one_row_is_refused():
    with pytest.raises(DataError, match=r"a\.csv has 1 row, and training, validation and test"):
        divide({"train": ["only"]}, Cut(), key=str, place="a.csv")


def test_a_class_with_one_row_is_refused():
    rows = [*[(n, "a") for n in range(9)], (9, "b")]
    with pytest.raises(DataError, match=r"1 row of class 'b', and .* drop the class or join it"):
        divided({"train": rows})


def test_a_class_whose_rows_are_all_alike_is_refused():
    rows = [*[(n, "a") for n in range(9)], *[(9, "b")] * 4]
    with pytest.raises(DataError, match=r"4 rows of class 'b' \(1 different\)"):
        divided({"train": rows})
