"""The losses of a method are those of its runs with the settings that were chosen for it."""

from __future__ import annotations

from rankwise.comparison.loss_curves import loss_curves
from tests.comparison import made_records as made


def run_at(alpha, loss):
    tree = {"training": {"learning_rate": 0.1}, "method": {"adapter": {"alpha": alpha}}}
    losses = tuple(point.model_copy(update={"validation_loss": loss}) for point in made.curve(0.5))
    return made.run(rate=0.1, settings=tree, curve=losses)


def test_runs_of_values_that_lost_are_left_out():
    row = made.row(learning_rate=0.1, settings={"adapter.alpha": 16})
    (curve,) = loss_curves(made.summary([row]), [run_at(4, 9.0), run_at(16, 1.0)])
    assert set(curve.losses) == {1.0}
