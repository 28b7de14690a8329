"""A learning rate is chosen by validation over all seeds, or not at all."""

from __future__ import annotations

from rankwise.comparison.analysis.choice import MethodSweep
from rankwise.training.settings.recipe import load_recipe


def record(rate, seed, score, *, loss=1.0, status="done"):
    curve = [{"step": 1, "validation_loss": loss, "validation_score": score}]
    return {
        "learning_rate": rate,
        "seed": seed,
        "score_validation": score,
        "status": status,
        "curve": curve,
    }


def sweep(*records):
    rates = sorted({entry["learning_rate"] for entry in records})
    return MethodSweep(load_recipe("digits").method, rates, list(records))


def test_the_highest_mean_wins():
    method = sweep(
        record(0.1, 0, 0.9), record(0.1, 1, 0.5), record(0.2, 0, 0.8), record(0.2, 1, 0.8)
    )
    assert method.best() == 0.2


def test_equal_scores_are_told_apart_by_the_loss():
    assert sweep(record(0.1, 0, 0.9, loss=0.3), record(0.2, 0, 0.9, loss=0.2)).best() == 0.2


def test_a_rate_with_a_failed_seed_is_out():
    method = sweep(record(0.1, 0, 0.99), record(0.1, 1, 0.0, status="failed"), record(0.2, 0, 0.5))
    assert method.best() == 0.2
    assert len(method.failures()) == 1


def test_if_all_failed_there_is_no_best():
    assert sweep(record(0.1, 0, 0.9, status="failed")).best() is None


def test_records_of_a_rate_come_in_the_order_of_seeds():
    method = sweep(record(0.1, 2, 0.1), record(0.1, 0, 0.2))
    assert [entry["seed"] for entry in method.of_rate(0.1)] == [0, 2]


def test_a_settled_rate_stays_when_more_seeds_come():
    method = sweep(record(0.1, 0, 0.9), record(0.2, 0, 0.8))
    assert method.settle() == 0.1
    method.records.append(record(0.1, 1, 0.1))
    assert method.best() == 0.1
    assert len(method.of_rate(0.1)) == 2


def test_a_settled_rate_whose_later_seed_fails_is_out():
    method = sweep(record(0.1, 0, 0.9), record(0.2, 0, 0.8))
    method.settle()
    method.records.append(record(0.1, 1, 0.0, status="failed"))
    assert method.best() is None
