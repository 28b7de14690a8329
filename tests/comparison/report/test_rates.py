"""Over learning rates: the means of the sweep, the rate that was chosen, and where runs failed."""

from __future__ import annotations

import math

import pytest

from rankwise.comparison.report import rates
from rankwise.comparison.report.comparison import Comparison
from rankwise.comparison.report.series import learning_rate_sweep
from tests.comparison.report.charts_of import COMPARISON, labels_told, row_of, traces
from tests.comparison.report_records import LEARNING_RATES


@pytest.fixture(scope="module")
def figure():
    return rates.draw(COMPARISON, "300")


def test_a_sweep_shows_the_means_and_rings_the_chosen_rate(figure):
    lora, line = row_of("lora r=1"), traces(figure, "line")["lora r=1"]
    means = dict(zip(line.x, line.y))
    assert tuple(means) == LEARNING_RATES
    assert means[lora.learning_rate] == pytest.approx(lora.score_validation)
    ring = traces(figure, "chosen")["lora r=1"]
    assert (ring.x, ring.y) == ((lora.learning_rate,), (means[lora.learning_rate],))


def test_a_rate_at_which_a_run_failed_is_a_gap_with_a_cross_on_the_axis(figure):
    assert traces(figure, "line")["delora r=1"].y[-1] is None
    cross = traces(figure, "failed")["delora r=1"]
    assert (cross.x, cross.y) == ((0.1,), (figure.layout.yaxis.range[0],))
    assert not traces(figure, "failed")["lora r=1"].x


@pytest.mark.parametrize("steps", [(0.001, 0.003), (1e-4, 3e-4, 1e-3)])
def test_names_stand_inside_of_the_axis(steps):
    rows = [
        row.model_copy(update={"learning_rate": steps[-1]}) for row in COMPARISON.summary.methods
    ]
    comparison = Comparison(
        COMPARISON.summary.model_copy(update={"methods": tuple(rows)}),
        [
            run.model_copy(update={"learning_rate": steps[n % len(steps)]})
            for n, run in enumerate(COMPARISON.runs)
        ],
    )
    figure = rates.draw(comparison, "300")
    for label in traces(figure, "label").values():
        assert math.log10(label.x[-1]) < figure.layout.xaxis.range[1] - 1e-9


def test_learning_rates_are_told_by_what_the_worst_costs():
    caption = rates.tell(COMPARISON, "300")
    rows = {row.label: row for row in COMPARISON.rows_in("300")}
    falls = []
    for name in labels_told(caption):
        scores = [mean for _, mean in learning_rate_sweep(rows[name], COMPARISON).points]
        falls.append(max(scores) - min(scores))
    assert len(falls) == 11
    assert falls == sorted(falls)
    assert caption.count("(runs failed at 1 more)") == 1
