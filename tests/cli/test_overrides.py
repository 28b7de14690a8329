"""Dotted options become a tree of settings."""

from __future__ import annotations

import pytest

from rankwise.cli.overrides import parse_overrides, parse_variations
from rankwise.core.errors import SettingsError


def test_options_are_nested_and_values_are_yaml():
    tree = parse_overrides(["--a.b", "3", "--a.c=[1, x]", "--d", "true", "--a.e", ""])
    assert tree == {"a": {"b": 3, "c": [1, "x"], "e": None}, "d": True}


def test_the_last_of_two_equal_options_counts():
    assert parse_overrides(["--seed", "1", "--seed", "2"]) == {"seed": 2}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["epochs", "3"], "expected an option"),
        (["--epochs"], "--epochs needs a value"),
        (["--epochs", "[1"], "is not a YAML value"),
        (["--a", "1", "--a.b", "2"], "'a' was given a value of its own"),
    ],
)
def test_mistakes_are_named(words, message):
    with pytest.raises(SettingsError, match=message):
        parse_overrides(words)


def test_variations_are_values_by_setting():
    assert parse_variations(["method.r=1,2", "training.bf16=true,false"]) == {
        "method.r": [1, 2],
        "training.bf16": [True, False],
    }


@pytest.mark.parametrize("word", ["method.r", "method.r="])
def test_a_variation_without_values_is_refused(word):
    with pytest.raises(SettingsError, match=r"SETTING=VALUE,VALUE, got 'method\.r"):
        parse_variations([word])
