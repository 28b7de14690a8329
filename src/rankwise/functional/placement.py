"""Which layers get how much of a budget of parameters: greedily, where a parameter gains most."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from rankwise.functional.arguments import ArgumentError


def greedy_ranks(
    gains: Sequence[Sequence[float]], costs: Sequence[Sequence[int]], *, budget: int
) -> list[int]:
    """Give each layer a rank, zero allowed, so that all of them cost at most ``budget``.

    The next rank goes where gain / cost is greatest and still fits; a layer of which one does not
    fit gets no more. With σ² for gains, the squared singular values of a gradient, and in + out for
    costs, this is the share of the squared gradient that adapters at ΔW = 0 can follow, a
    parameter. Where gain / cost falls from rank to rank in each layer, what is gained is the most
    that can be for what is spent until a rank is passed over, and in all at least the most for
    ``budget`` less the gain of the first that was. Where all ranks cost the same it is the most.

    Args:
        gains: Of each layer, what its first rank gains, its second, and so on, none negative.
        costs: The parameters of each of these ranks, all positive.
        budget: Parameters in all.

    Returns:
        The rank of each layer. A rank that gains nothing is not given.

    Raises:
        ValueError: The lengths differ, a gain is negative, or a cost is not positive.

    Example:
        >>> greedy_ranks([[9.0, 1.0], [4.0, 3.0]], [[10, 10], [10, 10]], budget=35)
        [1, 2]
    """
    if [*map(len, gains)] != [*map(len, costs)]:
        raise ArgumentError(
            f"each gain has a cost, got {[*map(len, gains)]} gains and {[*map(len, costs)]} costs"
        )
    if any(gain < 0 for each in gains for gain in each):
        raise ArgumentError("no gain may be negative: pass squared singular values")
    if any(cost <= 0 for each in costs for cost in each):
        raise ArgumentError("each rank must cost at least one parameter")
    ranks, left = [0] * len(gains), budget
    waiting: list[tuple[float, int]] = []

    def wait(layer: int) -> None:
        r = ranks[layer]
        if r < len(gains[layer]) and gains[layer][r] > 0:
            heapq.heappush(waiting, (-gains[layer][r] / costs[layer][r], layer))

    for layer in range(len(gains)):
        wait(layer)
    while waiting:
        _, layer = heapq.heappop(waiting)
        cost = costs[layer][ranks[layer]]
        if cost <= left:
            ranks[layer] += 1
            left -= cost
            wait(layer)
    return ranks
