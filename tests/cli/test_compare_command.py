"""``rankwise compare``: what it writes down of the command that it was."""

from __future__ import annotations

import shlex
from argparse import Namespace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankwise.cli.compare_command import _command
from rankwise.cli.overrides import parse_overrides

KEYS = st.from_regex(r"[a-z_]{1,8}", fullmatch=True)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
TREES = st.dictionaries(
    KEYS,
    st.recursive(
        SCALARS | st.lists(SCALARS, max_size=3),
        lambda inner: st.dictionaries(KEYS, inner, min_size=1, max_size=3),
        max_leaves=4,
    ),
    max_size=3,
)


def recorded(overrides):
    arguments = Namespace(recipe="digits", output=Path("out"), variant=None, vary=[])
    program, command, recipe, *rest = shlex.split(_command(arguments, overrides))
    assert (program, command, recipe) == ("rankwise", "compare", "digits")
    assert rest[:2] == ["--output", "out"]
    return parse_overrides(rest[2:])


@given(TREES)
def test_the_recorded_command_has_the_same_settings(overrides):
    assert recorded(overrides) == overrides


@pytest.mark.parametrize(
    "overrides",
    [
        {"training": {"max_grad_norm": None, "learning_rate": 1e-5}},
        {"compare": {"budgets": ["300"], "methods": [{"name": "lora", "r": 2}]}},
        {"method": {"adapter": {"rank_pattern": {"layers.4": 5}}}},
    ],
)
def test_what_yaml_would_read_otherwise_is_written_so_that_it_does_not(overrides):
    assert recorded(overrides) == overrides
