"""The options of ``rankwise compare`` that stand for settings."""

from __future__ import annotations

import contextlib
import shutil

import pytest

from rankwise.cli import compare_command
from rankwise.cli.compare_command import _seeds, _with_seeds
from rankwise.cli.main import main
from rankwise.comparison import sweep
from rankwise.comparison.analysis.verdict import NOTHING
from rankwise.comparison.folder import read_summary
from tests.comparison.made_up_runs import MadeUpEngine, best_at
from tests.full_disk import Disk


class Arguments:
    recipe, variant = "rac-glue", None

    def __init__(self, seeds):
        self.seeds = seeds


@pytest.mark.parametrize(
    ("typed", "seeds"),
    [
        ("2", [42, 43]),
        ("7", [42, 43, 44, 45, 46, 47, 48]),
        ("0,3", [0, 3]),
        ("[5]", [5]),
    ],
)
def test_seeds_are_so_many_of_the_recipe_and_those_that_follow_or_a_list(typed, seeds):
    assert _with_seeds(Arguments(_seeds(typed)), {}) == {"compare": {"seeds": seeds}}


def test_seeds_of_the_recipe_are_those_that_options_leave():
    overrides = {"compare": {"widenings": 0}}
    assert _with_seeds(Arguments(1), overrides) == {"compare": {"widenings": 0, "seeds": [42]}}
    assert _with_seeds(Arguments(None), overrides) == overrides


@pytest.mark.parametrize("typed", ["0", "-1", "x", "", "1,x"])
def test_what_is_no_number_of_seeds_is_refused(capsys, typed):
    with pytest.raises(SystemExit):
        main(["compare", "digits", f"--seeds={typed}"])
    assert "takes how many seeds, 1 or more, or a list" in capsys.readouterr().err


def test_a_disk_that_fills_up_at_any_file_of_a_comparison_is_told_and_spoils_nothing(
    capsys, monkeypatch, tmp_path
):
    monkeypatch.setattr(sweep, "_make_base_model", lambda *_: None)
    words = ["compare", "digits", "--compare.methods", "lora", "--compare.widenings", "0"]
    words += ["--compare.seeds", "0", "--compare.learning_rates", "1e-2", "--output"]

    def compare(output, **refused):
        engine = contextlib.nullcontext(MadeUpEngine(best_at(1e-2)))
        with monkeypatch.context() as patch:
            patch.setattr(compare_command, "_engine", lambda *_: engine)
            disk = Disk(output, patch, **refused)
            return main([*words, str(output)]), disk.files

    code, files = compare(tmp_path / "whole")
    assert code == 0
    assert files >= 4  # two records, the summary, the page
    for number in range(1, files + 1):
        output = tmp_path / str(number)
        assert compare(output, refused=number)[0] == 2
        assert "make room, then rerun the same command to resume" in capsys.readouterr().err
        assert not [file for file in output.rglob(".*") if file.is_file()], "half a file is left"
        assert compare(output)[0] == 0
        ours, theirs = (read_summary(each).methods for each in (output, tmp_path / "whole"))
        assert ours == theirs


def compared(monkeypatch, engine, output, *, seeds, rates):
    """Compare two methods by made-up runs, and return what the command ends with."""
    monkeypatch.setattr(compare_command, "_engine", lambda *_: contextlib.nullcontext(engine))
    monkeypatch.setattr(sweep, "_make_base_model", lambda *_: None)
    words = ["compare", "digits", "--output", str(output), "--compare.widenings", "0"]
    words += ["--compare.methods", "lora,delora", "--compare.seeds", seeds]
    return main([*words, "--compare.learning_rates", rates])


def test_runs_that_are_removed_meanwhile_are_not_summed_up(capsys, monkeypatch, tmp_path):
    class Removing(MadeUpEngine):
        """Loses what was trained so far where test is read."""

        def run(self, function, calls):
            if function is sweep._score:
                shutil.rmtree(tmp_path / "out" / "runs")
            yield from super().run(function, calls)

    engine = Removing(best_at(1e-2))
    assert compared(monkeypatch, engine, tmp_path / "out", seeds="0,1", rates="1e-3,1e-2") == 2
    assert "32 of 32 runs are no longer in" in capsys.readouterr().err
    assert not (tmp_path / "out" / "summary.json").exists()


def test_what_is_said_of_one_seed_is_printed_once(capsys, monkeypatch, tmp_path):
    engine = MadeUpEngine(best_at(1e-2))
    assert compared(monkeypatch, engine, tmp_path / "out", seeds="0", rates="1e-2") == 0
    assert read_summary(tmp_path / "out").headline == NOTHING
    assert capsys.readouterr().out.count(NOTHING) == 1
    assert (tmp_path / "out" / "report.html").read_text(encoding="utf-8").count(NOTHING) == 1
