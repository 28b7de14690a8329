"""``rankwise report`` on the comparisons of several tasks."""

from __future__ import annotations

import pytest

from rankwise.cli.main import main
from rankwise.comparison.folder import write_summary
from tests.comparison import made_records as made


@pytest.fixture
def outputs(tmp_path):
    """Two comparisons of one method, at 0.6 on one task of VTAB and 0.8 on another."""
    for task, score in (("svhn", 0.6), ("eurosat", 0.8)):
        row = made.row("lora", r=8, budget="r = 8", scores=(score,), seeds=(0,))
        (tmp_path / task).mkdir()
        write_summary(tmp_path / task, made.summary([row], task=task))
    return [str(tmp_path / task) for task in ("svhn", "eurosat")]


def test_means_over_tasks_are_printed(outputs, capsys):
    assert main(["report", *outputs]) == 0
    printed = capsys.readouterr().out
    assert "2 of the 19 tasks of VTAB-1K" in printed
    assert "0.700" in printed


def test_a_task_twice_is_a_mistake(outputs, capsys):
    assert main(["report", outputs[0], outputs[0]]) == 2
    assert "got svhn twice" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("form", "text"),
    [("csv", "budget,method,r,side"), ("markdown", "| Budget |"), ("latex", r"\top")],
)
def test_the_table_is_printed_in_other_formats(outputs, capsys, form, text):
    assert main(["report", outputs[0], "--format", form]) == 0
    printed = capsys.readouterr().out
    assert text in printed
    assert "lora" in printed


def test_a_format_is_of_one_comparison(outputs, capsys):
    assert main(["report", *outputs, "--format", "csv"]) == 2
    assert "--format csv is of one comparison" in capsys.readouterr().err


WILD = "[/x]\x1b[2J\n[red]name"


def test_names_and_errors_of_strangers_are_shown_and_not_obeyed(tmp_path, capsys):
    rows = [
        made.row(WILD, budget=WILD, warnings=(WILD,), score_mean=0.5),
        made.failed_row("lora", error=WILD, budget=WILD),
    ]
    write_summary(tmp_path, made.summary(rows, task=WILD))
    for words in ([], ["--format", "csv"], ["--format", "markdown"], ["--format", "latex"]):
        assert main(["report", str(tmp_path), *words]) == 0
        printed = capsys.readouterr().out
        assert "/x" in printed
        assert "\x1b" not in printed


def test_a_run_of_a_stranger_has_its_page(tmp_path, capsys):
    record = made.failed_run(made.method(WILD, budget=WILD), error=WILD)
    (tmp_path / "run").mkdir()
    record.write(tmp_path / "run" / "record.json")
    assert main(["report", str(tmp_path / "run")]) == 0
    assert "written: " in capsys.readouterr().out
