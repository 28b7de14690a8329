"""What fuzzing needs: content that was changed anywhere, and readers that may only say so."""

from __future__ import annotations

import contextlib
import copy
import os
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from rankwise.core.errors import RankwiseError

EXAMPLES = int(os.environ.get("RANKWISE_FUZZ_EXAMPLES", "60"))


def fuzzed_by(share: float):
    """Return the settings of a test that a share of the examples is enough for."""
    return settings(
        max_examples=max(10, int(share * EXAMPLES)),
        database=None,
        suppress_health_check=list(HealthCheck),
    )


fuzzed = fuzzed_by(1)
EDITS = st.lists(
    st.tuples(
        st.floats(0, 1), st.sampled_from(["set", "cut", "insert", "swap"]), st.binary(max_size=9)
    ),
    min_size=1,
    max_size=4,
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3)
    ),
    max_leaves=6,
)


def mutated(content: bytes, edits) -> bytes:
    """Apply edits at places given as shares of the length."""
    for place, kind, piece in edits:
        at = int(place * len(content))
        if kind == "set":
            content = content[:at] + piece + content[at + len(piece) :]
        elif kind == "cut":
            content = content[:at] + content[at + 1 + len(piece) :]
        elif kind == "insert":
            content = content[:at] + piece + content[at:]
        else:
            content = content[at:] + content[:at]
    return content


def survives(read, *arguments) -> None:
    """Read, and let a ``RankwiseError`` alone pass for an answer."""
    with contextlib.suppress(RankwiseError):
        read(*arguments)


def with_file(directory: Path, name: str, content: bytes, read) -> None:
    """Read with a file's content exchanged for a moment."""
    file = directory / name
    before = file.read_bytes() if file.exists() else b""
    file.write_bytes(content)
    try:
        survives(read)
    finally:
        file.write_bytes(before)


def places(tree, path=()):
    """Every place in a tree of JSON, the inner ones too."""
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in inner:
        yield (*path, key)
        if isinstance(value, dict | list):
            yield from places(value, (*path, key))


def with_value(tree, place, value):
    """A copy of a tree with another value at a place, given as a share of them all."""
    known = list(places(tree))
    *above, last = known[int(place * (len(known) - 1))]
    changed = part = copy.deepcopy(tree)
    for key in above:
        part = part[key]
    part[last] = value
    return changed
