"""Every benchmark runs at toy size; what it prints there are no figures."""

from __future__ import annotations

import pytest
import torch

from rankwise.comparison.report.page import write_report
from tests.benchmarks.scripts import load
from tests.comparison.report_records import made_up_comparison
from tests.tasks.generation.generation_files import boolq_rows, write_lines

pytestmark = [
    pytest.mark.runs,
    # A peer's hooks fire where nothing but the weights requires gradients.
    pytest.mark.filterwarnings("ignore:Full backward hook is firing"),
]


@pytest.fixture(autouse=True)
def threads():
    """The benchmarks set the number of threads."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_all_print_one_table(capsys):
    load("all").main(["--tiny"])
    *_, table = capsys.readouterr().out.split("\nall\n")
    rows = [line.split(" | ") for line in table.strip().splitlines()[2:]]
    assert len(rows) == 19
    assert {row[-1].removesuffix(" |") for row in rows} <= {"yes", "no", "undecided"}


def test_exports_are_compared(capsys):
    load("export").main(["--tiny"])
    assert capsys.readouterr().out.count("chain of 2 blocks") == 3


def test_runs_in_lockstep_are_timed(capsys):
    load("lockstep").main(["--tiny"])
    assert "a run of together" in capsys.readouterr().out


def test_the_cost_model_is_checked(capsys):
    load("scaling").main(["--tiny"])
    printed = capsys.readouterr().out
    # Operations are counted, not measured, and what is no decomposition is exact at any size.
    assert "| 64 | operations, frozen pass |" in printed
    for exact in ("frozen pass", "lora_xs beyond it", "fold 1"):
        (line,) = [each for each in printed.splitlines() if f"operations, {exact} " in each]
        assert line.endswith(" 1.00 |")
    assert printed.count("| 400 B |") == 4


def test_the_theory_of_chains_is_drawn(capsys):
    load("rac_theory").main(["--tiny"])
    assert "bound holds at every block" in capsys.readouterr().out
    assert torch.get_default_dtype() == torch.float32


def test_loads_are_measured(capsys):
    parts = [
        word for part in ("records", "layers", "folds", "adapters") for word in ("--part", part)
    ]
    load("load").main(["--tiny", *parts])
    *_, table = capsys.readouterr().out.split("\nload\n")
    assert len(table.strip().splitlines()) == 2 + 2 + 5 + 4 + 4
    assert "| resume a comparison of " in table


@pytest.mark.slow
@pytest.mark.processes
def test_comparisons_begun_at_once_are_whole_or_refused():
    script = load("load")
    assert script.compare_at_once(3, folders=3) == [0, 0, 0]
    assert sorted(script.compare_at_once(8, folders=1)) == [0, *[2] * 7]


@pytest.mark.processes
def test_the_grid_of_digits_is_timed(capsys):
    load("digits_grid").main(["--tiny"])
    assert "| 1 runs on " in capsys.readouterr().out


@pytest.mark.processes
def test_a_peak_is_that_of_a_fresh_process():
    measuring, abm_init = load("measuring"), load("abm_init")
    assert measuring.in_fresh_process(abm_init.peak, "ours", abm_init.TINY) >= 0


def test_the_generation_tutorial_asks_and_scores(capsys, monkeypatch, tmp_path):
    write_lines(tmp_path, "commonsense/boolq/train", boolq_rows(24))
    write_lines(tmp_path, "commonsense/boolq/test", boolq_rows(3))
    monkeypatch.setenv("RANKWISE_DATA", str(tmp_path))
    words = ["--output", str(tmp_path / "out"), "--rows", "2", "--new-tokens", "2", "--tiny"]
    load("generation_tutorial").main(words)
    printed = capsys.readouterr().out
    assert printed.count("| boolq | greedy | 2 of 3 |") == 2
    assert printed.count("| boolq | likelihood | 2 of 3 |") == 2
    assert "| gsm8k | greedy | no file:" in printed


@pytest.mark.browser
def test_a_chart_is_written_as_a_picture(tmp_path):
    write_report(made_up_comparison(), tmp_path / "report.html")
    picture = tmp_path / "chart.png"
    load("picture").main([str(tmp_path), "score-by-rank", str(picture)])
    assert picture.read_bytes().startswith(b"\x89PNG")
