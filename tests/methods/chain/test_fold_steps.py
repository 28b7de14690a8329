"""At which steps a chain folds: never at the beginning, never at the end, never twice."""

import pytest

from rankwise.core.errors import SettingsError
from rankwise.methods.chain.fold_steps import FoldBelow, fold_steps, warning_of_no_fold


@pytest.mark.parametrize(
    ("how", "steps"),
    [
        ({"every": 4}, [4, 8]),
        ({"every": 5}, [5]),
        ({"every": 10}, []),
        ({"fractions": [0.25, 0.8]}, [2, 8]),
        ({"fractions": [0.01, 0.31, 0.32, 0.99]}, [3]),
        ({}, []),
    ],
)
def test_of_ten_steps(how, steps):
    assert fold_steps(10, **how) == steps


@pytest.mark.parametrize(
    ("rule", "looks"),
    [
        ({"look_every": 1}, [1, 2, 3, 4, 5, 6, 7, 8, 9]),
        ({"look_every": 3}, [3, 6, 9]),
        ({"look_every": 3, "least_steps": 4}, [6, 9]),
        ({"look_every": 2, "least_steps": 6}, [6, 8]),
    ],
)
def test_a_block_is_looked_at_after_every_so_many_steps_from_the_least_on(rule, looks):
    below = FoldBelow(0.1, **rule)
    assert [steps for steps in range(1, 10) if below.has_look(steps)] == looks
    assert below.first_look == looks[0]
    assert not below.is_full(10**6)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"share": 0.0}, "must lie between 0 and 1, got 0.0"),
        ({"share": 1.0}, "must lie between 0 and 1, got 1.0"),
        ({"share": float("nan")}, "must lie between 0 and 1, got nan"),
        ({"share": "0.1"}, "must lie between 0 and 1, got '0.1'"),
        ({"look_every": None}, "look_every must be an integer of at least 1"),
        ({"least_steps": None}, "least_steps must be an integer of at least 1"),
        ({"look_every": 0}, "look_every must be an integer of at least 1, got 0"),
        ({"least_steps": 1.5}, "least_steps must be an integer of at least 1, got 1.5"),
        ({"most_steps": 4}, "most_steps must be above 4, the first step of a block at which"),
        ({"least_steps": 5, "most_steps": 8}, "most_steps must be above 8"),
    ],
)
def test_a_rule_under_which_nothing_could_be_seen_is_refused(rule, message):
    with pytest.raises(SettingsError, match=message):
        FoldBelow(**{"share": 0.1, "look_every": 4, **rule})


@pytest.mark.parametrize(
    ("below", "setting"),
    [(FoldBelow(0.1, 200), "look_every"), (FoldBelow(0.1, 1, least_steps=500), "least_steps")],
)
def test_a_chain_that_is_never_looked_at_is_told_which_number_is_too_large(below, setting):
    warning = warning_of_no_fold(
        100, every=None, fractions=(), below=below, has_frozen_sketch=True, one_block="so"
    )
    assert f"Fold more often ({setting} at most 50)" in warning
