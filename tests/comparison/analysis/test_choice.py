"""A learning rate is chosen by validation over all seeds, or not at all."""

from __future__ import annotations

from rankwise.comparison.analysis.choice import MethodSweep, finished_of
from rankwise.training.records import CurvePoint
from rankwise.training.settings.grid import GridPoint
from rankwise.training.settings.recipe import load_recipe
from tests.comparison import made_records as made


def record(rate, seed, score, *, loss=1.0):
    curve = (CurvePoint(step=1, validation_loss=loss, validation_score=score),)
    return made.run("full", score, rate=rate, seed=seed, curve=curve)


def failed(rate, seed):
    return made.failed_run("full", rate=rate, seed=seed)


def sweep(*records):
    points = [GridPoint(rate) for rate in sorted({entry.learning_rate for entry in records})]
    return MethodSweep(load_recipe("digits").compare.methods[0], points, list(records))


def test_the_highest_mean_wins():
    method = sweep(
        record(0.1, 0, 0.9), record(0.1, 1, 0.5), record(0.2, 0, 0.8), record(0.2, 1, 0.8)
    )
    assert method.best() == GridPoint(0.2)


def test_equal_scores_are_told_apart_by_the_loss():
    assert sweep(record(0.1, 0, 0.9, loss=0.3), record(0.2, 0, 0.9, loss=0.2)).best() == GridPoint(
        0.2
    )


def test_a_rate_with_a_failed_seed_is_out():
    method = sweep(record(0.1, 0, 0.99), failed(0.1, 1), record(0.2, 0, 0.5))
    assert method.best() == GridPoint(0.2)
    assert len(method.failures()) == 1


def test_if_all_failed_there_is_no_best():
    assert sweep(failed(0.1, 0)).best() is None


def test_records_of_a_point_come_in_the_order_of_seeds():
    records = [record(0.1, 2, 0.1), record(0.1, 0, 0.2)]
    assert [entry.seed for entry in finished_of(records)] == [0, 2]


def test_a_chosen_rate_stays_when_more_seeds_come():
    method = sweep(record(0.1, 0, 0.9), record(0.2, 0, 0.8))
    assert method.choose() == GridPoint(0.1)
    method.records.append(record(0.1, 1, 0.1))
    assert method.best() == GridPoint(0.1)
    assert [entry.seed for entry in method.best_runs()] == [0, 1]


def test_a_chosen_rate_whose_later_seed_fails_is_out():
    method = sweep(record(0.1, 0, 0.9), record(0.2, 0, 0.8))
    method.choose()
    method.records.append(failed(0.1, 1))
    assert method.best() is None
