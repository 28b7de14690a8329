"""``--training.epochs 3`` on the command line: dotted settings on top of a recipe."""

from __future__ import annotations

from typing import Any

import yaml

from rankwise.core.errors import SettingsError


def parse_overrides(arguments: list[str]) -> dict[str, Any]:
    """Return the tree of settings that ``arguments`` name; values are read as YAML.

    >>> parse_overrides(["--training.epochs", "3", "--compare.seeds=[0, 1]"])
    {'training': {'epochs': 3}, 'compare': {'seeds': [0, 1]}}

    Raises:
        SettingsError: A word is not an option, an option has no value, or a value is not YAML.
    """
    tree: dict[str, Any] = {}
    words = iter(arguments)
    for word in words:
        if not word.startswith("--") or word == "--":
            raise SettingsError(f"expected an option like --training.epochs 3, got {word!r}")
        key, equals, value = word[2:].partition("=")
        if not equals:
            value = next(words, None)
        if value is None:
            raise SettingsError(f"--{key} needs a value: --{key} VALUE")
        _insert(tree, key.split("."), _read_value(key, value))
    return tree


def parse_variations(arguments: list[str]) -> dict[str, list[Any]]:
    """Return the values by setting of ``SETTING=VALUE,VALUE``; each value is read as YAML.

    >>> parse_variations(["method.init.margin=0,0.5"])
    {'method.init.margin': [0, 0.5]}

    Raises:
        SettingsError: A word has no values.
    """
    variations = {}
    for word in arguments:
        key, _, values = word.partition("=")
        if not values:
            raise SettingsError(f"--vary takes SETTING=VALUE,VALUE, got {word!r}")
        variations[key] = [_read_value(key, value) for value in values.split(",")]
    return variations


def _read_value(key: str, text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SettingsError(f"--{key}: {text!r} is not a YAML value: {error}") from None


def _insert(tree: dict[str, Any], keys: list[str], value: Any) -> None:
    *parents, last = keys
    for key in parents:
        tree = tree.setdefault(key, {})
        if not isinstance(tree, dict):
            raise SettingsError(f"--{'.'.join(keys)}: {key!r} was given a value of its own before")
    tree[last] = value
