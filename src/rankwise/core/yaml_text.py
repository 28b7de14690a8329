"""YAML that others wrote, read within bounds.

A few hundred bytes of YAML can stand for more than any memory holds: an alias repeats what an
anchor named, and aliases of aliases multiply. What a text would come to is therefore counted before
anything is made of it, and a key that is there twice, whose first value YAML would drop in silence,
is refused.
"""

from __future__ import annotations

from typing import Any, NoReturn

import yaml

LONGEST = 100_000
"""Characters of a text."""
MOST_VALUES = 20_000
"""Values and keys, each counted as often as aliases repeat it."""
DEEPEST = 50
"""Lists and mappings within one another."""


def read_yaml(text: str) -> Any:
    """Read one YAML document: plain values, lists and mappings.

    Raises:
        ValueError: It is not YAML, too long, too deep or would be too large; or a key is there
            twice.
    """
    if len(text) > LONGEST:
        raise ValueError(f"{len(text):,} characters, of which {LONGEST:,} are read at most")
    try:
        _check_events(text)
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _check_size(node)
        return loader.construct_document(node)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None


def _check_events(text: str) -> None:
    """Refuse what is too deep or too large as it stands; the parser stops there and then."""
    depth = 0
    for count, event in enumerate(yaml.parse(text, yaml.SafeLoader)):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > DEEPEST or count > 2 * MOST_VALUES:
            _refuse_size()


def _check_size(root: yaml.Node) -> None:
    """Refuse a document that aliases make too large, too deep, or without end."""
    measured: dict[int, tuple[int, int]] = {}

    def measure(node: yaml.Node) -> tuple[int, int]:
        """Return how many values ``node`` comes to, and how many levels."""
        # A node that is met again is an alias: it is counted again, but not walked again. One that
        # is met while it is walked holds itself, and has no end.
        if id(node) not in measured:
            measured[id(node)] = (MOST_VALUES + 1, 1)
            parts = [measure(part) for part in _parts_of(node)]
            size = 1 + sum(size for size, _ in parts)
            measured[id(node)] = (size, 1 + max((levels for _, levels in parts), default=0))
        size, levels = measured[id(node)]
        if size > MOST_VALUES or levels > DEEPEST + 1:
            _refuse_size()
        return size, levels

    measure(root)


def _refuse_size() -> NoReturn:
    raise ValueError(
        f"more than {MOST_VALUES:,} values, counted with what aliases repeat, or more than "
        f"{DEEPEST} levels of lists and mappings"
    )


def _parts_of(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        _check_keys(node)
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def _check_keys(node: yaml.MappingNode) -> None:
    seen: set[str] = set()
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            continue
        if key.value in seen and key.tag != "tag:yaml.org,2002:merge":
            line = key.start_mark.line + 1
            raise ValueError(f"line {line}: {key.value!r} is there twice: leave one out")
        seen.add(key.value)
