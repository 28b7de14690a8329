"""The page of one run, and the command that writes it."""

from __future__ import annotations

import pytest

from rankwise.cli.main import main
from rankwise.core.records import write_text
from rankwise.methods.inits.report import LayerStart
from rankwise.training.records import DiagnosticPoint, InitializationRecord, StepPoint, TestResult
from rankwise.training.report.charts import CHARTS
from tests.comparison import made_records as made

STEPS = tuple(
    StepPoint(step=i, loss=2 / (i + 1), learning_rate=0.01, gradient_norm=1 / (i + 1))
    for i in range(1, 30)
)
LAYERS = tuple(
    LayerStart(f"layers.{i}", 2, 0.01 * i, captured_before=0.1, captured_after=0.4 + 0.1 * i)
    for i in range(3)
)


def a_run(**changed):
    return made.run(
        "lora-sb",
        0.9,
        curve=made.curve(0.2, 0.8, 0.9),
        steps=STEPS,
        init=InitializationRecord(init="update", layers=LAYERS),
        diagnostics=tuple(
            DiagnosticPoint(step=i, relative_norm=0.01 * i, captured_share=0.5) for i in range(4)
        ),
        **changed,
    )


def written(folder, record):
    folder.mkdir()
    record.write(folder / "record.json")
    return folder


def shown(record):
    return [chart.id for chart in CHARTS if chart.is_shown(record)]


def test_the_command_writes_the_page_of_a_run(tmp_path, capsys):
    folder = written(tmp_path / "run", a_run())
    TestResult(run="run", score_test=0.875, scores={"accuracy": 0.875}).write(folder / "test.json")
    assert main(["report", str(folder)]) == 0
    assert str(folder / "report.html") in capsys.readouterr().out
    page = (folder / "report.html").read_text(encoding="utf-8")
    for text in ("0.8750", "Gradient norm", "Captured share by layer", "layers.2: 0.6 after"):
        assert text in page
    assert "are recorded with" not in page


def test_charts_are_of_what_was_recorded():
    assert len(shown(a_run())) == len(CHARTS)
    plain = made.run("lora", 0.9, curve=made.curve(0.2, 0.9))
    assert shown(plain) == ["loss", "score"]


def test_a_run_without_logged_steps_says_how_to_log_them(tmp_path):
    folder = written(tmp_path / "run", made.run("lora", 0.9, curve=made.curve(0.2, 0.9)))
    assert main(["report", str(folder)]) == 0
    assert "--training.logging_steps 1" in (folder / "report.html").read_text(encoding="utf-8")


def test_a_failed_run_says_why(tmp_path):
    folder = written(tmp_path / "run", made.failed_run(error="the loss became <nan>"))
    assert main(["report", str(folder)]) == 0
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "It failed: the loss became &lt;nan&gt;" in page
    # There is nothing to draw.
    assert ">Charts<" not in page
    assert "In words" not in page


@pytest.mark.parametrize("more", [["--format", "csv"], ["elsewhere"]])
def test_a_run_has_no_table(tmp_path, capsys, more):
    folder = written(tmp_path / "run", a_run())
    assert main(["report", str(folder), *more]) == 2
    assert "is the folder of one run" in capsys.readouterr().err


def test_a_damaged_record_is_one_message(tmp_path, capsys):
    folder = tmp_path / "run"
    write_text(folder / "record.json", "{")
    assert main(["report", str(folder)]) == 2
    assert "record.json" in capsys.readouterr().err
