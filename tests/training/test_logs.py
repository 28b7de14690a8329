"""The logs of a run: a line an epoch, the scores on test, and single steps where asked for."""

from __future__ import annotations

import csv

import pytest

from rankwise.training.finished import score_test
from rankwise.training.folder import RunFolder
from rankwise.training.run import train_run

pytestmark = pytest.mark.runs

LOOPS = pytest.mark.parametrize("loop", ["lean", "trainer"])


@LOOPS
def test_an_epoch_is_a_line_that_is_said_and_written(settings, output, loop):
    run, said = settings("lora", loop=loop), []
    record = train_run(run, output, say=said.append)
    lines = RunFolder.below(output, run.name).validation_log.read_text().splitlines()
    assert [line.split("  ")[:2] for line in lines] == [
        [f"epoch {epoch}", f"step {5 * epoch}"] for epoch in range(4)
    ]
    assert lines[1:] == said
    last = record.curve[-1]
    assert f"train loss {last.train_loss:.4f}" in said[-1]
    assert f"validation accuracy {last.validation_score:.4f}" in said[-1]


def test_the_scores_on_test_are_a_text_too(settings, output):
    run = settings("lora")
    train_run(run, output)
    found = score_test(run, output)
    text = RunFolder.below(output, run.name).test_log.read_text()
    assert text == f"test accuracy {found.score_test:.4f}\n"


@LOOPS
def test_steps_are_recorded_and_written_as_csv(settings, output, loop):
    run = settings("lora", loop=loop, logging_steps=2, scheduler="linear", max_grad_norm=0.01)
    record = train_run(run, output)
    # Every second step, and the end of each epoch of five.
    assert [point.step for point in record.steps] == [2, 4, 5, 6, 8, 10, 12, 14, 15]
    rates = [point.learning_rate for point in record.steps]
    assert rates == sorted(rates, reverse=True)
    # Before clipping.
    assert all(point.gradient_norm > 0.01 for point in record.steps)
    with RunFolder.below(output, run.name).steps.open() as file:
        rows = list(csv.DictReader(file))
    assert [(int(row["step"]), float(row["loss"])) for row in rows] == [
        (point.step, point.loss) for point in record.steps
    ]


def test_both_loops_record_the_same_steps(settings, output):
    lean, trainer = (
        train_run(settings("lora", loop=loop, logging_steps=2), output).steps
        for loop in ("lean", "trainer")
    )
    for ours, theirs in zip(lean, trainer, strict=True):
        assert ours.step == theirs.step
        assert ours.loss == pytest.approx(theirs.loss, rel=1e-4)
        assert ours.learning_rate == pytest.approx(theirs.learning_rate, rel=1e-6)
        assert ours.gradient_norm == pytest.approx(theirs.gradient_norm, rel=1e-3)


@LOOPS
def test_logging_changes_neither_the_run_nor_its_name(settings, output, loop, tmp_path):
    plain, logged = settings("lora", loop=loop), settings("lora", loop=loop, logging_steps=1)
    assert plain.name == logged.name
    first, second = train_run(plain, output), train_run(logged, tmp_path)
    for before, after in zip(first.curve, second.curve, strict=True):
        assert (before.step, before.validation_loss) == (after.step, after.validation_loss)
        if before.train_loss is not None:
            assert before.train_loss == pytest.approx(after.train_loss, rel=1e-5)
    assert not first.steps
    assert not RunFolder.below(output, plain.name).steps.exists()
