"""What a comparison shows while it runs: the bar and the leaders, or plain lines."""

from __future__ import annotations

import io
import itertools
import time

import pytest
from rich.console import Console

from rankwise.cli.progress import ProgressWatcher
from tests.comparison import made_records as made


def record(name, rate, score, *, seed=0, budget="300", r=2):
    return made.run(made.method(name, r=r, budget=budget), score, rate=rate, seed=seed)


def failed(name, rate, *, seed=0):
    return made.failed_run(name, rate=rate, seed=seed, error="the loss became nan [at once]")


def watched(records, *, terminal, height=30):
    console = Console(
        file=io.StringIO(), force_terminal=terminal, width=100, height=height, color_system=None
    )
    watcher = ProgressWatcher(console)
    with watcher:
        watcher.plan(len(records))
        for each in records:
            watcher.done(each)
        if terminal:
            console.print(watcher._view())
    return console.file.getvalue()


def test_a_terminal_shows_the_best_rate_of_each_method_by_its_mean_over_seeds():
    text = watched(
        [
            record("lora", 0.1, 0.9, seed=0),
            record("lora", 0.1, 0.5, seed=1),
            record("lora", 0.01, 0.8, seed=0),
            record("delora", 0.01, 0.85, seed=0),
        ],
        terminal=True,
    )
    shown = [line.split() for line in text.splitlines() if line.startswith("300 ")][-2:]
    assert shown == [
        ["300", "delora", "r=2", "1", "0.01", "0.850"],
        ["300", "lora", "r=2", "3", "0.01", "0.800"],
    ]
    assert "4/4" in text


def test_a_rate_at_which_a_run_failed_does_not_lead():
    records = [record("lora", 0.1, 0.9), failed("lora", 0.1, seed=1), record("lora", 0.01, 0.5)]
    text = watched(records, terminal=True)
    (*_, shown) = [line.split() for line in text.splitlines() if line.startswith("300 ")]
    assert shown == ["300", "lora", "r=2", "3", "0.01", "0.500"]


def test_more_methods_than_lines_show_the_best():
    records = [record(f"method-{i}", 0.1, i / 100) for i in range(40)]
    text = watched(records, terminal=True, height=10)
    view = text[text.rindex("best so far") :]
    assert "method-39" in view
    assert "method-0 " not in view


def test_elsewhere_there_is_a_line_now_and_then_with_the_best_of_each_budget():
    records = [record("lora", 0.1, 0.5, seed=i, budget="300") for i in range(25)]
    records += [record("delora", 0.1, 0.7, budget="1200", r=None)]
    lines = watched(records, terminal=False).splitlines()
    assert lines == [
        "25 of 26 runs done; best on validation so far: lora r=2 0.500",
        "26 of 26 runs done; best on validation so far: delora 0.700, lora r=2 0.500",
    ]


def test_runs_that_take_minutes_have_a_line_each(monkeypatch):
    minutes = itertools.count()
    monkeypatch.setattr(time, "monotonic", lambda: 60.0 * next(minutes))
    lines = watched([record("lora", 0.1, 0.5, seed=i) for i in range(3)], terminal=False)
    assert [line.partition(" runs")[0] for line in lines.splitlines()] == [
        "1 of 3",
        "2 of 3",
        "3 of 3",
    ]


@pytest.mark.parametrize("terminal", [True, False])
def test_a_failed_run_is_named_at_once_as_it_stands(terminal):
    text = watched([failed("cola", 0.1)], terminal=terminal)
    assert "failed: cola r=2-300-0.1-0: the loss became nan [at once]" in text


def test_ctrl_c_says_what_is_kept():
    console = Console(file=io.StringIO(), width=100)
    watcher = ProgressWatcher(console)
    watcher.plan(3)
    watcher.done(record("lora", 0.1, 0.5))
    watcher.__exit__(KeyboardInterrupt, None, None)
    assert "1 of 3 runs done, and kept" in console.file.getvalue()


def test_the_last_line_counts_what_failed():
    records = [record("lora", 0.1, 0.5), failed("cola", 0.1)]
    assert watched(records, terminal=False).splitlines()[-1] == (
        "2 of 2 runs done, 1 failed; best on validation so far: lora r=2 0.500"
    )


def test_a_grid_that_grows_is_said_with_the_reason():
    console = Console(file=io.StringIO(), width=100)
    ProgressWatcher(console).widened("lora", 0.3)
    assert "lora: its best learning rate is at an edge of the grid, 0.3 is tried" in (
        console.file.getvalue()
    )


@pytest.mark.parametrize("terminal", [True, False])
def test_what_others_named_is_shown_and_not_obeyed(terminal):
    hostile = record("lora", 0.1, 0.5, budget="[/red]\x1b[2J\nx")
    broken = made.failed_run("cola", error="[/x]\x1b[2J\nsecond")
    text = watched([hostile, broken], terminal=terminal)
    assert ": [/x]\\x1b[2J second" in text
    assert "\x1b[2J" not in text
