"""A/A and A/B: how often comparisons err and find, through everything from choice to verdict.

Runs and predictions are simulated: a method is right on a test row with a chance that depends on
the row, on the method and on the seed. Two methods that are the same have different random numbers.
"""

from __future__ import annotations

import numpy as np
import pytest

from rankwise.comparison.analysis.choice import MethodSweep
from rankwise.comparison.analysis.headline import headline
from rankwise.comparison.analysis.simulation import simulated_rates
from rankwise.comparison.analysis.summary import summarise
from rankwise.training.records import TestResult
from rankwise.training.settings.grid import GridPoint
from rankwise.training.settings.recipe import load_recipe
from tests.comparison import made_records as made

pytestmark = pytest.mark.slow
COMPARISONS, SEEDS, ROWS = 400, 10, 120
RATES = [0.01, 0.1]
ROW_DEVIATION, SEED_DEVIATION = 1.0, 0.3
METHODS = [{"name": "lora", "r": 2}, {"name": "cola", "r": 2}]
RECIPE = load_recipe("digits", {"compare": {"methods": METHODS, "learning_rates": RATES}})


def compared(generator, shift):
    """The row of a method that is better than the baseline by ``shift``, on the logit."""
    easy = generator.normal(1.5, ROW_DEVIATION, size=ROWS)
    labels = tuple([1] * ROWS)
    sweeps, tests = [], {}
    for method, advantage in zip(RECIPE.compare.methods, (0.0, shift), strict=True):
        records = []
        for rate in RATES:
            for seed in range(SEEDS):
                luck = generator.normal(0.0, SEED_DEVIATION)
                chances = 1 / (1 + np.exp(-(easy + luck + advantage)))
                validation, test = generator.random((2, ROWS)) < chances
                record = made.run(method.title, float(validation.mean()), rate=rate, seed=seed)
                score = float(test.mean())
                tests[record.run] = TestResult.model_construct(
                    run=record.run,
                    score_test=score,
                    scores={"accuracy": score},
                    predictions=tuple(test.astype(int).tolist()),
                    labels=labels,
                )
                records.append(record)
        sweeps.append(MethodSweep(method, [GridPoint(rate) for rate in RATES], records))
    return summarise(RECIPE, sweeps, tests, command="").methods[1]


def test_two_identical_methods_are_told_apart_in_at_most_five_percent():
    generator = np.random.default_rng(0)
    rows = [compared(generator, 0.0) for _ in range(COMPARISONS)]
    told_apart = [row for row in rows if row.is_significant]
    assert len(told_apart) <= 0.05 * COMPARISONS
    assert all("differs" not in headline([row], baseline="lora") for row in told_apart)


def test_a_true_difference_of_two_deviations_is_found():
    generator = np.random.default_rng(1)
    # The deviation of a score over seeds, as it comes from luck and from rows together.
    null = [np.std(compared(generator, 0.0).scores, ddof=1) for _ in range(40)]
    deviation = float(np.sqrt(np.mean(np.square(null))))
    # By how much the logit must be shifted for a score that is so much higher.
    easy = generator.normal(1.5, ROW_DEVIATION, size=100_000)
    luck = generator.normal(0.0, SEED_DEVIATION, size=100_000)

    def score(shift):
        return float(np.mean(1 / (1 + np.exp(-(easy + luck + shift)))))

    shifts = np.linspace(0, 2, 400)
    shift = next(each for each in shifts if score(each) - score(0) >= 2 * deviation)
    found = [compared(generator, shift).is_better for _ in range(COMPARISONS)]
    assert np.mean(found) >= 0.9


@pytest.mark.parametrize("methods", [1, 9])
def test_the_methods_of_a_budget_share_the_error_of_five_percent(methods):
    rates = simulated_rates(seeds=10, methods=methods, effect=0.0, comparisons=4000)
    # Two standard errors of the simulation above what is promised.
    assert rates.false_alarms <= 0.05 + 2 * (0.05 * 0.95 / 4000) ** 0.5


def test_a_difference_of_two_deviations_is_found_with_ten_seeds():
    assert simulated_rates(seeds=10, methods=1, effect=2.0).found >= 0.9
