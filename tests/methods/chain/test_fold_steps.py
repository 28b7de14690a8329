"""At which steps a chain folds: never at the beginning, never at the end, never twice."""

import pytest

from rankwise.methods.chain.fold_steps import fold_steps


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
