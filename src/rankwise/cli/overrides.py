"""Settings on the command line, on top of a recipe: ``--training.epochs 3``, ``--lr 0.01``.

Read from the words of a command, and written as such words again, for the command that repeats a
comparison: ``split_options(option_words(tree), ...)[0] == tree``.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from rankwise.cli.setting_names import full_name
from rankwise.comparison.ablation import VARIED_SECTIONS
from rankwise.core.errors import SettingsError
from rankwise.core.yaml_text import read_yaml
from rankwise.training.settings.catalogue import settings_named
from rankwise.training.settings.written import as_yaml

Tree = dict[str, Any]
# A value that leaves no doubt that it is a list; a comma in a regular expression makes none.
_PLAIN_LIST = re.compile(r"[\w.+-]+(,[\w.+-]+)+")
_PLAIN_VALUES = re.compile(r"[\w.+-]+(,[\w.+-]+)*")
_SWITCHED = ("true", "false", "yes", "no", "on", "off", "t", "f", "y", "n", "1", "0")
_NULL = ("", "~", "null")
_QUOTES = ("'", '"')
_PLAIN_KEY = re.compile(r"[A-Za-z_]\w*")


def split_options(
    words: list[str], *, declared: Collection[str], sections: Collection[str]
) -> tuple[Tree, list[str]]:
    """Split the words of a command into a tree of settings and what its parser reads.

    Values are read as YAML. ``a,b`` is a list where a list is asked for, and so is a single value;
    a switch needs no value.

    >>> split_options(["digits", "--lr", "0.1"], declared=[], sections=["training"])
    ({'training': {'learning_rate': 0.1}}, ['digits'])

    Args:
        words: All behind the name of the command.
        declared: The command's own options, with their dashes.
        sections: Of the settings that it takes.

    Raises:
        SettingsError: An option is unknown or has no value, or its value is not YAML.
    """
    tree: Tree = {}
    rest: list[str] = []
    left = list(reversed(words))
    while left:
        word = left.pop()
        typed, equals, value = word[2:].partition("=")
        if not word.startswith("--") or word == "--" or f"--{typed}" in declared:
            rest.append(word)
            continue
        name = full_name(typed, sections=sections, declared=declared)
        text = value if equals else _take_value(name, typed, left)
        _insert(tree, _keys_of(name), _read_value(name, text))
    return tree, rest


def option_words(tree: Tree, *, above: str = "") -> list[str]:
    """Return the words of a command that :func:`split_options` reads as ``tree``."""
    words: list[str] = []
    for key, value in tree.items():
        name = f"{above}{key}"
        is_section = isinstance(value, dict) and not settings_named(name)
        if is_section and value and all(map(_is_plain_key, value)):
            words += option_words(value, above=f"{name}.")
        else:
            words.append(f"--{name}={_written(name, value)}")
    return words


def _written(name: str, value: Any) -> str:
    """Write a list without brackets where it is read as the same list, and all else as YAML."""
    if isinstance(value, list):
        text = ",".join(map(as_yaml, value))
        if _PLAIN_VALUES.fullmatch(text) and repr(_read_value(name, text)) == repr(value):
            return text
    return as_yaml(value)


def parse_variations(arguments: list[str]) -> dict[str, list[Any]]:
    """Return the values by setting of ``SETTING=VALUE,VALUE``; each value is read as YAML.

    >>> parse_variations(["margin=0,0.5"])
    {'method.init.margin': [0, 0.5]}

    Raises:
        SettingsError: A word has no values, or its setting is not one that can be varied.
    """
    variations = {}
    for word in arguments:
        key, _, values = word.partition("=")
        if not values:
            raise SettingsError(f"--vary takes SETTING=VALUE,VALUE, got {word!r}")
        name = full_name(key, sections=VARIED_SECTIONS)
        variations[name] = [_parsed(name, value) for value in values.split(",")]
    return variations


def _take_value(name: str, typed: str, left: list[str]) -> str:
    """Take the value of an option from the words that are left."""
    has_next = bool(left) and not left[-1].startswith("--")
    is_switch = any(each.takes("boolean") for each in settings_named(name))
    if is_switch and not (has_next and left[-1].lower() in _SWITCHED):
        return "true"
    if not has_next:
        raise SettingsError(f"--{typed} needs a value: --{typed} VALUE")
    return left.pop()


def _read_value(name: str, text: str) -> Any:
    settings = settings_named(name)
    takes_list = any(each.takes("array") for each in settings)
    if settings and all(each.takes_only_texts for each in settings):
        value = _text(text, may_be_list=takes_list)
    else:
        value = _parsed(name, text)
    if not takes_list:
        return value
    if any(each.takes("string") for each in settings):
        is_list = isinstance(value, str) and _PLAIN_LIST.fullmatch(value)
        return value.split(",") if is_list else value
    if isinstance(value, str):
        is_text = all(each.takes_only_texts for each in settings)
        return [each if is_text else _parsed(name, each) for each in value.split(",")]
    return value if value is None or isinstance(value, list) else [value]


def _text(text: str, *, may_be_list: bool) -> Any:
    """Return what a setting of texts is given: null, what is quoted as in YAML, or the text."""
    try:
        value = read_yaml(text)
    except ValueError:
        return text
    if isinstance(value, list) and may_be_list:
        return value
    is_yaml = text.lower() in _NULL or (text[:1] in _QUOTES and isinstance(value, str))
    return value if is_yaml else text


def _parsed(name: str, text: str) -> Any:
    try:
        return read_yaml(text)
    except ValueError as error:
        raise SettingsError(f"--{name}: {text[:200]!r} is not a YAML value: {error}") from None


def _keys_of(name: str) -> list[str]:
    """Split a dotted name; what stands behind a mapping of names, such as ranks, is one of them."""
    parts = name.split(".")
    for length in range(1, len(parts)):
        above = settings_named(".".join(parts[:length]))
        if any(each.maps_names for each in above):
            return [*parts[:length], ".".join(parts[length:])]
    return parts


def _insert(tree: Tree, keys: list[str], value: Any) -> None:
    *parents, last = keys
    for key in parents:
        tree = tree.setdefault(key, {})
        if not isinstance(tree, dict):
            raise SettingsError(f"--{'.'.join(keys)}: {key!r} was given a value of its own before")
    tree[last] = value


def _is_plain_key(key: Any) -> bool:
    return isinstance(key, str) and _PLAIN_KEY.fullmatch(key) is not None
