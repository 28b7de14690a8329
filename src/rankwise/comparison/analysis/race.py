"""A race: points of a grid that can no longer win are dropped before all seeds are spent on them.

Points are paired by seed with the one that leads. After k of n seeds, a point that is behind by d
on average wins only if the seeds that are left take it back. Were the differences of all seeds
normal with a deviation s, estimated from those seen so far of all points together,

    t = d √(n k / (n - k)) / s

would be Student's, and its upper tail is the chance that the point still wins. It is dropped below
a chance of 1 %. (Maron & Moore 1994, Advances in NIPS 6, race models by bounds; Birattari et al.
2002, GECCO, configurations by tests of blocks, as seeds are here.)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import stats

from rankwise.training.settings.grid import GridPoint

CHANCE = 0.01
"""Below this chance to win a point is dropped."""
FEWEST_SEEDS = 2
"""Of fewer seeds nobody can say how they differ."""


@dataclass(frozen=True)
class Dropped:
    """A point that left the race.

    Attributes:
        seeds: After so many.
        behind: The mean by which it was behind the best on the same seeds.
        chance: That it would still have won.
    """

    point: GridPoint
    seeds: int
    behind: float
    chance: float


def losers(scores: Mapping[GridPoint, Mapping[int, float]], *, seeds: int) -> list[Dropped]:
    """Return the points that can no longer win a race over ``seeds`` seeds.

    Args:
        scores: By point, and of each by seed. Points that have come to the end of the race stay.
        seeds: Of the whole race.
    """
    if len(scores) < 2:
        return []
    shared = sorted(set.intersection(*(set(each) for each in scores.values())))
    table = {point: np.array([each[seed] for seed in shared]) for point, each in scores.items()}
    if not FEWEST_SEEDS <= len(shared) < seeds:
        return []
    leader = max(table, key=lambda point: table[point].mean())
    behind = {point: table[leader] - each for point, each in table.items() if point != leader}
    deviation = float(np.sqrt(np.mean([each.var(ddof=1) for each in behind.values()])))
    if deviation <= 1e-12:  # a few seeds may agree by chance: nothing is known of the others
        return []
    k, degrees = len(shared), len(behind) * (len(shared) - 1)
    factor = math.sqrt(seeds * k / (seeds - k)) / deviation
    chances = {
        point: float(stats.t.sf(each.mean() * factor, degrees)) for point, each in behind.items()
    }
    return [
        Dropped(point, k, float(behind[point].mean()), chance)
        for point, chance in chances.items()
        if chance < CHANCE and len(scores[point]) < seeds
    ]
