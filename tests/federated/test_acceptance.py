"""What is looked at before a round is applied."""

from __future__ import annotations

import pytest

from rankwise.core.errors import TrainingError
from rankwise.federated.acceptance import check_enough, is_sound, standing_out


def test_a_run_with_too_few_clients_stops():
    check_enough(2, needed=2, round_number=4)
    with pytest.raises(TrainingError, match=r"round 4: 1 clients .* at least 2 .* --resume"):
        check_enough(1, needed=2, round_number=4)


@pytest.mark.parametrize(
    ("loss", "before", "sound"),
    [(2.0, 2.3, True), (900, 0.01, True), (1100, 0.01, False), (1e29, 2.3, False)]
    + [(float(name), 2.3, False) for name in ("inf", "nan")],
)
def test_a_loss_explodes_beyond_a_thousand_times_the_one_before(loss, before, sound):
    assert is_sound(loss, before) == sound


def test_a_norm_stands_out_beside_the_median_of_the_others():
    assert standing_out({0: 1.0, 1: 1.2, 2: 3.0}) == {}
    assert standing_out({0: 1.0, 1: 30.0, 2: 2.0}) == {
        1: "its update has a norm of 30, and the median of the others' is 1.5"
    }
    assert standing_out({0: 1e30}) == {}
