"""When server and clients of two machines agree, and what they need not agree on."""

from __future__ import annotations

import pytest

from rankwise.training.settings.federated import FederatedSettings
from rankwise.training.settings.federation_plan import Plan
from rankwise.training.settings.recipe import settings_of_run


def plan(method=None, **federated):
    run = settings_of_run({"method": {"name": "rac-lora", "r": 2} | (method or {})})
    return Plan(run=run, federated=FederatedSettings(**federated))


SAME = [{"timeout_seconds": 5}, {"join_seconds": 5}, {"rounds": 3}, {"min_clients": 1}]


@pytest.mark.parametrize("same", SAME)
def test_what_changes_no_result_changes_no_digest(same):
    assert plan(**same).digest == plan().digest


@pytest.mark.parametrize(
    "other",
    [
        {"clients": 4},
        {"alpha": 1},
        {"local_steps": 3},
        {"aggregation": "median", "min_clients": 3},
        {"aggregation": "norm-clipping", "clipping_norm": 1.0},
    ],
)
def test_other_settings_have_another_digest(other):
    assert plan(**other).digest != plan().digest
    assert plan({"r": 3}).digest != plan().digest


def test_options_of_an_aggregate_change_the_digest_of_its_federations():
    trimmed = {"aggregation": "trimmed-mean", "min_clients": 3}
    assert plan(**trimmed, trim=0.3).digest != plan(**trimmed).digest


def test_a_plan_that_travelled_as_json_is_the_same():
    assert Plan.model_validate_json(plan().model_dump_json()) == plan()
