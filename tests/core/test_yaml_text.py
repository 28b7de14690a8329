"""YAML of others: read within bounds of size and depth, and strict about what is there twice."""

from __future__ import annotations

from itertools import pairwise

import pytest

from rankwise.core.yaml_text import DEEPEST, LONGEST, MOST_VALUES, read_yaml


def multiplied(form: str, *, times: int = 30) -> str:
    """Return lines each of which repeats the one above it ten times."""
    names = [f"n{i}" for i in range(times)]
    lines = [
        f"{name}: &{name} {form % ','.join([f'*{below}'] * 10)}" for below, name in pairwise(names)
    ]
    return "\n".join(["n0: &n0 {x: 1}", *lines])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: 1\nb: [x, null, true, 0.5]", {"a": 1, "b": ["x", None, True, 0.5]}),
        ("a: &x {b: 1}\nc: {<<: *x, d: 2}", {"a": {"b": 1}, "c": {"b": 1, "d": 2}}),
        ("", None),
        ("[" * 3 + "]" * 3, [[[]]]),
    ],
)
def test_plain_yaml_is_read_as_ever(text, value):
    assert read_yaml(text) == value


BOMBS = {
    "aliases in lists": multiplied("[%s]"),
    "aliases in mappings": multiplied("{k: [%s]}"),
    "merged mappings": multiplied("{<<: [%s]}"),
    "a list in itself": "&a [*a]",
    "a mapping in itself": "a: &a {b: *a}",
    "deep lists": "[" * (LONGEST - 1),
    "deep blocks": "- " * (LONGEST // 2),
    "deep keys": "? " * (LONGEST // 2),
    "deep by aliases": "\n".join(
        f"- &a{i} [{f'*a{i - 1}' if i else 1}]" for i in range(DEEPEST + 1)
    ),
    "many values": f"[{'1,' * (MOST_VALUES + 1)}]",
}


@pytest.mark.parametrize("name", BOMBS)
def test_what_would_be_too_large_or_too_deep_is_refused_before_it_is_made(name):
    with pytest.raises(ValueError, match=r"more than 20,000 values, .* 50 levels"):
        read_yaml(BOMBS[name])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x" * (LONGEST + 1), "100,001 characters, of which 100,000 are read at most"),
        ("a: 1\nb: 2\na: 3", "line 3: 'a' is there twice: leave one out"),
        ("a: {b: 1, b: 2}", "'b' is there twice"),
        ("a: [1", "expected ',' or ']'"),
        ("a\x00b", "special characters are not allowed"),
        ("a: 1\n---\nb: 2", "expected a single document"),
        ("2001-99-99", "month must be in 1..12"),
        ("1" * 5000, "Exceeds the limit"),
        ("!!python/object/apply:os.system [x]", "could not determine a constructor"),
        ("? [a]\n: b", "found unhashable key"),
    ],
)
def test_what_is_wrong_is_told(text, message):
    with pytest.raises(ValueError) as caught:
        read_yaml(text)
    assert message in str(caught.value)
