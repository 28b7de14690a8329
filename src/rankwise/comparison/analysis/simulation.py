"""How often a comparison errs and how often it finds, by simulating many of them.

Scores over seeds are normal with a deviation of one, independent between methods, and go through
the test that decides in a real comparison.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rankwise.comparison.analysis.significance import ERROR, holm, student_p_values


@dataclass(frozen=True)
class Rates:
    """Shares of the simulated comparisons.

    Attributes:
        false_alarms: In which some method was told apart from the baseline that equals it.
        found: In which the one method that truly differs was found.
    """

    false_alarms: float
    found: float


def simulated_rates(
    *, seeds: int, methods: int, effect: float, comparisons: int = 400, seed: int = 0
) -> Rates:
    """Simulate comparisons of ``methods`` with a baseline, of which the first one differs.

    Args:
        seeds: Of each method.
        methods: Beside the baseline; all but the first equal it.
        effect: The true difference of the first, in standard deviations of a score over seeds.
        comparisons: How many are simulated.
        seed: Of the random numbers.
    """
    generator = np.random.default_rng(seed)
    alarms = found = 0
    for _ in range(comparisons):
        scores = generator.normal(size=(methods + 1, seeds))
        scores[1] += effect
        significant = [p <= ERROR for p in holm(student_p_values(scores[1:] - scores[0]))]
        found += significant[0]
        alarms += any(significant[1:] if effect else significant)
    return Rates(alarms / comparisons, found / comparisons)
