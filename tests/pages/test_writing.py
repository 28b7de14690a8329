"""Numbers in fitting units."""

from __future__ import annotations

import shlex

import pytest

from rankwise.pages.writing import NOTHING, duration, listed, on_lines, points, signed, size


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (2108, "2.11 kB"),
        (999_600, "1 MB"),
        (5e6, "5 MB"),
        (7e12, "7 TB"),
    ],
)
def test_sizes(count, text):
    assert size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0031, "3 ms"),
        (0.9996, "1.0 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 00 s"),
        (185, "3 min 05 s"),
        (7800, "2 h 10 min"),
    ],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_differences_carry_their_sign():
    assert (signed(0.0123), signed(-0.0123)) == ("+0.012", "−0.012")


def test_what_rounds_to_zero_has_no_minus():
    assert (signed(-0.0001), points(-0.0001), points(None)) == ("+0.000", "+0.0", "–")


def test_a_list_has_its_opening_and_an_empty_one_says_so():
    assert listed(["a", "b"], opening="In order") == "In order. a; b."
    assert listed([], opening="In order") == NOTHING


def test_a_command_has_an_option_a_line_and_stays_the_same_command():
    command = "rankwise compare a.csv --output o --task.text='a --b' --vary method.r=4,8"
    assert on_lines(command).splitlines() == [
        "rankwise compare a.csv \\",
        "  --output o \\",
        "  '--task.text=a --b' \\",
        "  --vary method.r=4,8",
    ]
    assert shlex.split(on_lines(command).replace("\\\n", "")) == shlex.split(command)
    assert on_lines("it's no command") == "it's no command"
