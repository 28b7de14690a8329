"""The table of a comparison reaches trackers by what their documentation promises.

The trackers themselves are services, and not installed; what stands here for them has the part of
their interface that Accelerate calls.
"""

from __future__ import annotations

import importlib.util
import sys
from types import SimpleNamespace

import pytest

from rankwise.comparison.records import Protocol, Summary, SummaryRow
from rankwise.comparison.tracking import log_summary, table_of
from tests.comparison.made_records import method


@pytest.fixture
def summary():
    def row(name, score, **more):
        known = {"trainable_parameters": 100, "learning_rate": 0.01, "score_mean": score}
        return SummaryRow(**method(name).model_dump(), **known, **more)

    rows = (
        row("lora", 0.5),
        row("delora", 0.75, difference_mean=0.25, p_value=0.01),
        SummaryRow(**method("lora-sb").model_dump(), status="failed", error="no"),
    )
    return Summary(
        task="reviews",
        metric="accuracy",
        protocol=Protocol(baseline="lora"),
        headline="DeLoRA leads.",
        methods=rows,
    )


class Recorder:
    """Keeps what is called on it, and is what each call returns."""

    def __init__(self):
        self.calls = []

    def __getattr__(self, name):
        def call(*arguments, **named):
            self.calls.append((name, arguments, named))
            return self

        return call

    def of(self, name):
        return [(arguments, named) for called, arguments, named in self.calls if called == name]


def test_the_table_has_a_row_a_method(summary):
    columns, rows = table_of(summary)
    assert columns[:5] == ["method", "budget", "trainable parameters", "learning rate", "test"]
    assert [row[0] for row in rows] == [each.label for each in summary.methods]
    assert [row[4] for row in rows] == [0.5, 0.75, None]


def test_weights_and_biases_gets_a_table_beside_the_scores(summary, tmp_path, monkeypatch):
    run = Recorder()
    stand_in = SimpleNamespace(init=run.init, Table=lambda **table: table, run=run)
    monkeypatch.setitem(sys.modules, "wandb", stand_in)
    monkeypatch.setenv("WANDB_PROJECT", "reviews")
    assert log_summary(summary, tmp_path, ["wandb"]) == ["the table is logged to wandb"]
    ((_, begun),) = run.of("init")
    assert begun == {
        "project": "reviews",
        "name": f"{tmp_path.name} comparison",
        "job_type": "comparison",
    }
    ((scores,), _), ((table,), _) = run.of("log")
    assert scores["delora r_2/test"] == 0.75
    assert scores["delora r_2/difference"] == 0.25
    assert not any(name.startswith("lora-sb") for name in scores)
    assert len(table["comparison"]["data"]) == 3
    assert len(run.of("finish")) == 1


def test_mlflow_gets_the_files(summary, tmp_path, monkeypatch):
    client = Recorder()
    client.search_experiments = lambda **_: [SimpleNamespace(experiment_id="0")]
    monkeypatch.setitem(sys.modules, "mlflow", client)
    (tmp_path / "summary.json").write_text("{}")
    assert log_summary(summary, tmp_path, ["mlflow"]) == ["the table is logged to mlflow"]
    ((_, begun),) = client.of("start_run")
    assert (begun["experiment_id"], begun["run_name"]) == ("0", f"{tmp_path.name} comparison")
    (((metrics,), _),) = client.of("log_metrics")
    assert metrics["lora r_2/test"] == 0.5
    ((_, file),) = client.of("log_artifact")
    assert file["local_path"] == str(tmp_path / "summary.json")


def test_tensorboard_gets_scalars_and_a_text(summary, tmp_path, monkeypatch):
    writer = Recorder()
    stand_in = SimpleNamespace(SummaryWriter=writer.SummaryWriter)
    if importlib.util.find_spec("tensorboard") is None:
        monkeypatch.setitem(sys.modules, "tensorboardX", stand_in)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", stand_in)
    monkeypatch.setattr("torch.utils.tensorboard", stand_in, raising=False)
    assert log_summary(summary, tmp_path, ["tensorboard"]) == ["the table is logged to tensorboard"]
    (((folder,), _),) = writer.of("SummaryWriter")
    assert folder == str(tmp_path / "comparison")
    scalars = {arguments[0]: arguments[1] for arguments, _ in writer.of("add_scalar")}
    assert scalars["delora r_2/test"] == 0.75
    (((name, text), _),) = writer.of("add_text")
    assert name == "comparison"
    assert text.startswith("DeLoRA leads.\n\n| method | budget |")


def test_a_tracker_that_fails_is_told_and_takes_nothing_from_the_others(
    summary, tmp_path, monkeypatch
):
    def offline(**_):
        raise ConnectionError("no route")

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=offline))
    said = log_summary(summary, tmp_path, ["wandb", "codecarbon", "none"])
    assert said == [
        "the table could not be logged to wandb: ConnectionError: no route",
        said[1],
    ]
    assert said[1].startswith("the table is not logged to codecarbon: Accelerate logs to aim,")
