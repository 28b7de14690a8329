"""The view at equal rank: the same scores, against the baseline of the same r."""

from __future__ import annotations

import pytest

from rankwise.comparison.analysis.equal_rank import equal_ranks
from tests.comparison import made_records as made


def row(name, r, scores, **more):
    return made.row(name, r=r, scores=tuple(scores), score_mean=sum(scores) / len(scores), **more)


def test_each_rank_has_its_own_baseline_whatever_the_budget():
    rows = [
        row("lora", 1, [0.5, 0.6]),
        row("rac-lora", 1, [0.7, 0.8], budget="150"),
        row("lora", 4, [0.8, 0.9], budget="1200"),
        row("delora", 4, [0.6, 0.7], budget="1200"),
    ]
    first, fourth = equal_ranks(made.scored(rows))
    assert (first.r, fourth.r) == (1, 4)
    assert [each.name for each in first.rows] == ["rac-lora", "lora"]
    assert first.rows[0].difference_mean == pytest.approx(0.2)
    assert fourth.rows[1].difference_mean == pytest.approx(-0.2)
    assert first.verdict[0].startswith("Rank 1, against lora: significantly better: rac-lora;")
    assert "significantly worse: delora" in fourth.verdict[0]


def test_a_rank_without_a_baseline_or_without_a_contest_is_left_out():
    rows = [
        row("lora", 1, [0.5, 0.6]),
        row("lora-xs", 11, [0.7, 0.8]),
        row("full", None, [0.9, 0.9]),
        made.failed_row("delora", r=1),
    ]
    assert equal_ranks(made.scored(rows)) == []


def test_one_seed_gives_a_difference_and_no_claim():
    (entry,) = equal_ranks(made.scored([row("lora", 1, [0.5]), row("cola", 1, [0.6])]))
    assert entry.rows[0].difference_low is None
    assert entry.verdict == ()
