"""Whatever others wrote is one line that a terminal shows and does not obey."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankwise.core.outside_text import LONGEST, one_line, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("it failed: α ≤ 3 [/red]", "it failed: α ≤ 3 [/red]"),
        ("two\nlines\r\n\tand more ", "two lines and more"),
        ("\x1b[2J\x1b]0;title\x07", r"\x1b[2J\x1b]0;title\x07"),
        ("c1 \x9b31m", r"c1 \x9b31m"),
        ("turned \u202egnirts", r"turned \u202egnirts"),
        ("half \ud800", r"half \ud800"),
        ("", ""),
    ],
)
def test_what_is_not_to_be_printed_is_written_out(text, shown):
    assert one_line(text) == shown


def test_what_a_model_writes_keeps_its_lines_and_commands_no_terminal():
    assert printable("one\ttwo\n\x1b[2Jthree\r") == "one\ttwo\n\\x1b[2Jthree\\r"


def test_a_long_text_is_cut_where_it_can_be_seen():
    assert one_line("a" * LONGEST) == "a" * LONGEST
    assert one_line("a" * 10**7) == "a" * (LONGEST - 1) + "…"
    assert one_line("a" + " " * 10**7 + "b", longest=5) == "a…"
    assert len(one_line("\x1b" * LONGEST)) == LONGEST


@given(st.text())
def test_any_text_becomes_one_printable_line(text):
    shown = one_line(text)
    assert shown.isprintable()
    assert len(shown) <= LONGEST
    assert one_line(shown) == shown
