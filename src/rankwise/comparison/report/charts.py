"""The charts of the page, in its order: how each is drawn and told, and when it is shown.

A new chart is a file that draws and tells it, and one entry here.
"""

from __future__ import annotations

from collections.abc import Callable

from rankwise.comparison.report import curves, distribution, forest, fronts, ranks, rates
from rankwise.comparison.report.comparison import Comparison
from rankwise.pages.chart import Chart
from rankwise.training.records import RunRecord


def _budgets(comparison: Comparison) -> list[str]:
    return comparison.views


def _of_quantity(id: str, title: str, note: str, quantity: curves.Quantity) -> Chart[Comparison]:
    """Return the chart of what was measured while runs trained; shown where any has it."""
    return Chart(
        id,
        title,
        lambda _: note,
        draw=quantity.draw,
        caption=quantity.tell,
        is_shown=lambda it: any(
            quantity.measure(point) is not None
            for run in it.runs
            if isinstance(run, RunRecord)
            for point in run.diagnostics
        ),
        views=_budgets,
    )


def _of_front(
    id: str,
    title: str,
    beaten: str,
    front: fronts.Front,
    *,
    is_shown: Callable[[Comparison], bool] | None = None,
) -> Chart[Comparison]:
    """Return the chart of the score over a cost; shown where methods differ in it."""
    return Chart(
        id,
        title,
        lambda it: (
            f"Test {it.metric} with its 95 % interval. Along the dotted line, the Pareto front, "
            f"{beaten}. Budgets: {fronts.marker_key(it)}."
        ),
        draw=front.draw,
        caption=front.tell,
        is_shown=is_shown or front.tells_apart,
    )


CHARTS: tuple[Chart[Comparison], ...] = (
    Chart(
        "differences",
        "What differs",
        lambda it: (
            f"Test {it.metric} above or below that of {it.baseline} on the same seeds, with the "
            "interval at which the methods of a budget share an error of 5 %. Filled: significant, "
            "the interval leaves out zero."
        ),
        draw=forest.draw,
        caption=forest.tell,
        is_shown=lambda it: any(row.difference_low is not None for row in it.rows),
    ),
    Chart(
        "learning-curves",
        "Learning curves",
        lambda it: (
            f"Validation {it.metric} at the learning rate chosen for each method: mean over seeds, "
            "shaded from the lowest seed to the highest. Dotted: reference from another budget. A "
            "tick marks the fold of a chain. The first rise may begin below the scale."
        ),
        draw=curves.draw_learning_curves,
        caption=curves.tell_learning_curves,
        views=_budgets,
    ),
    _of_front(
        "score-by-parameters",
        "What parameters buy",
        "no method does better with fewer parameters",
        fronts.PARAMETERS,
        is_shown=lambda _: True,
    ),
    _of_front(
        "score-by-time",
        "What time buys",
        "no method does better with shorter runs, initialization and training together",
        fronts.TIME,
    ),
    _of_front(
        "score-by-memory",
        "What memory buys",
        "no method does better with less of it at its peak",
        fronts.MEMORY,
    ),
    _of_front(
        "score-by-forgetting",
        "What is forgotten for it",
        "no method does better and forgets less of what the base knew",
        fronts.FORGETTING,
    ),
    Chart(
        "score-by-learning-rate",
        "How much the learning rate matters",
        lambda it: (
            f"Validation {it.metric}, mean over seeds. A ring marks the rate that was chosen; a "
            "cross on the axis marks a rate at which a run failed."
        ),
        draw=rates.draw,
        caption=rates.tell,
        views=_budgets,
    ),
    Chart(
        "score-by-rank",
        "What rank buys",
        lambda it: (
            f"Test {it.metric} over rank, a line for each method that was scored at several; what "
            "has no rank is level."
        ),
        draw=ranks.draw,
        caption=ranks.tell,
        is_shown=lambda it: bool(ranks.lines_of(it)),
    ),
    _of_quantity(
        "relative-norm",
        "How far the weights move",
        "Norm of the change relative to the weights that it changes, over all adapted layers, at "
        "the learning rate chosen: mean over seeds, shaded from the lowest to the highest. The "
        "change of a chain is that of all its blocks; a tick marks a fold.",
        curves.RELATIVE_NORM,
    ),
    _of_quantity(
        "captured-share",
        "How much of the gradient is captured",
        "Share of the squared gradient of one batch that the parameters can follow at first order. "
        "One minus it is the relative information loss of ABM-LoRA. Shares of different methods "
        "are of different gradients as soon as they have trained.",
        curves.CAPTURED_SHARE,
    ),
    _of_quantity(
        "batch-loss",
        "The loss of the first steps",
        "Mean loss of that batch, the first that is trained on, without dropout.",
        curves.BATCH_LOSS,
    ),
    Chart(
        "distribution",
        "How the values differ",
        lambda _: (
            "Validation score of every run, all learning rates and seeds: the box holds the middle "
            "half of them, the line in it is the median."
        ),
        draw=distribution.draw,
        caption=distribution.tell,
        is_shown=lambda it: bool(it.summary.protocol.varied),
    ),
)
