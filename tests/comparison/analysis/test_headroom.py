"""What full fine-tuning has above the baseline, budget by budget."""

from __future__ import annotations

import pytest

from rankwise.comparison.analysis.headroom import headroom
from rankwise.comparison.analysis.verdict import on_headroom
from tests.comparison import made_records as made


def row(name, scores, *, r=2, budget="300"):
    return made.row(
        name, r=r, budget=budget, scores=tuple(scores), score_mean=sum(scores) / len(scores)
    )


FULL = row("full", [0.90, 0.92, 0.91, 0.93], r=None, budget="full")
SMALL = row("lora", [0.80, 0.81, 0.80, 0.83])
LARGE = row("lora", [0.91, 0.91, 0.92, 0.92], r=8, budget="1200")


def test_each_budget_with_a_baseline_has_its_margin():
    small, large = headroom(made.scored([FULL, SMALL, row("cola", [0.85] * 4), LARGE]))
    assert (small.name, small.budget, large.budget) == ("full", "300", "1200")
    assert small.difference_mean == pytest.approx(0.105)
    assert small.difference_low > 0
    assert large.difference_low < 0 < large.difference_high


def test_it_is_said_where_nothing_can_be_shown_to_catch_up():
    sentences = on_headroom(headroom(made.scored([FULL, SMALL, LARGE])), baseline="lora")
    assert sentences[0].startswith("full is 10.5 points above lora in budget 300 (+")
    assert sentences[0].endswith("there is headroom.")
    assert sentences[1].endswith("no headroom is shown, so no method can be shown to catch up.")


def test_without_full_fine_tuning_or_with_one_seed_nothing_is_said():
    assert headroom(made.scored([SMALL, LARGE])) == []
    alone = headroom(made.scored([row("full", [0.9], r=None, budget="full"), row("lora", [0.8])]))
    assert on_headroom(alone, baseline="lora") == []
