"""Many runs in one call: each is recorded, and one that fails is no business of the others."""

from __future__ import annotations

import pytest

from rankwise.training import together
from rankwise.training.folder import RunFolder
from rankwise.training.records import FailedRun, RunRecord
from rankwise.training.together import run_all_and_record
from tests.training.loops.test_lean import short

pytestmark = pytest.mark.runs

METHOD = "abm-lora-task"  # every stage: a reference, an initialization, training


@pytest.fixture
def runs(settings):
    return [settings(METHOD, method=short(METHOD), seed=seed, loop="lean") for seed in (0, 1, 2)]


def failing_at(function, call):
    """``function``, whose n-th call raises."""
    calls = iter(range(1, 1000))

    def wrapped(*arguments, **options):
        if next(calls) == call:
            raise ValueError("made to fail")
        return function(*arguments, **options)

    return wrapped


def test_each_run_is_recorded_and_not_made_again(runs, output):
    records = run_all_and_record(runs, output)
    assert [type(each) for each in records] == [RunRecord] * 3
    assert [each.trained_together for each in records] == [3] * 3
    assert run_all_and_record(runs, output) == records


# A stage, and the call of it that is the second run's.
@pytest.mark.parametrize(("stage", "call"), [("prepare_job", 2), ("save_trained", 2)])
def test_a_run_that_fails_before_its_init_leaves_the_others_alone(
    runs, output, monkeypatch, stage, call
):
    monkeypatch.setattr(together, stage, failing_at(getattr(together, stage), call))
    first, second, third = run_all_and_record(runs, output)
    assert (type(first), type(third)) == (RunRecord, RunRecord)
    assert isinstance(second, FailedRun)
    assert second.error == "ValueError: made to fail"
    assert RunFolder.below(output, runs[1].name).record.exists()
