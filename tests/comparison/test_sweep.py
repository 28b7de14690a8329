"""A comparison from beginning to end, by runs whose scores are made up."""

from __future__ import annotations

import random

import pytest

from rankwise.comparison.sweep import measures_retention, read_retention, read_test, sweep
from rankwise.core.errors import AdapterError, SettingsError
from rankwise.training.folder import RunFolder
from rankwise.training.records import FailedRun
from rankwise.training.settings.grid import RATE, GridPoint
from rankwise.training.settings.recipe import load_recipe
from tests.comparison.made_up_runs import MadeUpEngine, Nobody, best_at

pytestmark = pytest.mark.usefixtures("no_base_model")


def recipe(**comparison):
    methods = [{"name": "lora", "r": 2}, {"name": "delora", "r": 2}]
    known = {"methods": methods, "learning_rates": [1e-3, 1e-2, 1e-1]}
    known |= {"seeds": [0, 1, 2], "sweep_seeds": 3}
    return load_recipe("digits", {"compare": known | comparison})


def swept(recipe, output, score):
    engine = MadeUpEngine(score)
    return sweep(recipe, output, engine=engine, watcher=Nobody()), engine


def test_every_method_runs_every_rate_with_every_seed(tmp_path):
    watcher, engine = Nobody(), MadeUpEngine(best_at(1e-2))
    sweeps = sweep(recipe(), tmp_path, engine=engine, watcher=watcher)
    assert len(engine.performed) == watcher.planned == len(watcher.records) == 2 * 3 * 3
    assert [method.best() for method in sweeps] == [GridPoint(1e-2)] * 2
    assert all([run.seed for run in method.best_runs()] == [0, 1, 2] for method in sweeps)


def test_a_grid_grows_while_its_best_is_at_an_edge_and_as_often_as_allowed(tmp_path):
    sweeps, _ = swept(recipe(), tmp_path / "free", best_at(1.0))
    assert all(max(method.tried(RATE)) == 10.0 for method in sweeps)
    sweeps, _ = swept(recipe(widenings=1), tmp_path / "once", best_at(1.0))
    assert all(max(method.tried(RATE)) == 1.0 for method in sweeps)


def test_seeds_that_are_not_swept_run_at_the_chosen_rate_alone(tmp_path):
    sweeps, engine = swept(recipe(sweep_seeds=1), tmp_path, best_at(1e-2))
    assert len(engine.performed) == 2 * (3 + 2)
    late = {run.training.learning_rate for run in engine.performed if run.seed > 0}
    assert late == {1e-2}
    assert [run.seed for run in sweeps[0].best_runs()] == [0, 1, 2]


def test_what_is_recorded_is_not_done_again_and_needs_no_model(tmp_path, no_base_model):
    swept(recipe(), tmp_path, best_at(1e-2))
    assert len(no_base_model) == 1
    sweeps, engine = swept(recipe(), tmp_path, best_at(1e-2))
    assert engine.performed == []
    assert len(no_base_model) == 1
    assert [len(method.records) for method in sweeps] == [9, 9]


def test_a_run_that_failed_is_tried_again(tmp_path):
    def fails(settings):
        return None if settings.seed == 1 else 0.5

    sweeps, _ = swept(recipe(), tmp_path, fails)
    assert sweeps[0].best() is None
    assert all(isinstance(record, FailedRun) for record in sweeps[0].failures())
    sweeps, engine = swept(recipe(), tmp_path, best_at(1e-2))
    # The seed that failed, and the one for which nothing was left in the race.
    assert {run.seed for run in engine.performed} == {1, 2}
    assert sweeps[0].best() is not None


def test_test_is_read_once_for_the_chosen_runs_and_for_no_others(tmp_path):
    sweeps, engine = swept(recipe(), tmp_path, best_at(1e-2))
    results = read_test(sweeps, tmp_path, engine=engine)
    chosen = {run.run for method in sweeps for run in method.best_runs()}
    assert results.keys() == {run.name for run in engine.scored} == chosen
    again = MadeUpEngine(best_at(1e-3))
    assert read_test(sweeps, tmp_path, engine=again) == results
    assert again.scored == []


def test_the_score_of_another_adapter_is_refused(tmp_path):
    sweeps, engine = swept(recipe(), tmp_path, best_at(1e-2))
    results = read_test(sweeps, tmp_path, engine=engine)
    name, result = next(iter(results.items()))
    file = RunFolder.below(tmp_path, name).test
    result.model_copy(update={"adapter_digest": "of another"}).write(file)
    with pytest.raises(AdapterError, match="score of another adapter"):
        read_test(sweeps, tmp_path, engine=engine)


def noisy(best, *, spread):
    """Scores that fall with the distance from ``best``, and differ between seeds by ``spread``."""
    formula = best_at(best)

    def score(settings):
        name = f"{settings.method.name}{settings.training.learning_rate}{settings.seed}"
        return formula(settings) + spread * (random.Random(name).random() - 0.5)

    return score


def test_a_rate_that_can_no_longer_win_is_dropped_and_one_that_can_is_not(tmp_path):
    rates = [1e-4, 1e-3, 1e-2, 1.05e-2, 1e-1]
    raced = recipe(learning_rates=rates, seeds=list(range(6)), sweep_seeds=4, widenings=0)
    sweeps, engine = swept(raced, tmp_path, noisy(1e-2, spread=0.01))
    for method in sweeps:
        dropped = {each.point.learning_rate for each in method.dropped}
        assert dropped == {1e-4, 1e-3, 1e-1}
        assert all(each.seeds < 4 and each.behind > 0.05 for each in method.dropped)
    runs = [(run.method.name, run.training.learning_rate, run.seed) for run in engine.performed]
    assert len(set(runs)) == len(runs)
    assert all(("lora", 1e-4, seed) in runs for seed in (0, 1))
    assert not any(("lora", 1e-4, seed) in runs for seed in (2, 3, 4, 5))


def test_more_seeds_later_repeat_no_run_and_change_no_choice(tmp_path):
    few = recipe(seeds=[0, 1, 2, 3], sweep_seeds=3)
    more = recipe(seeds=list(range(8)), sweep_seeds=3)
    before, _ = swept(few, tmp_path, noisy(1e-2, spread=0.3))
    after, engine = swept(more, tmp_path, noisy(1e-2, spread=0.3))
    assert [method.best() for method in after] == [method.best() for method in before]
    assert {run.seed for run in engine.performed} == {4, 5, 6, 7}
    assert len(engine.performed) == 2 * 4


def test_a_comparison_whose_grid_was_run_with_all_seeds_resumes(tmp_path):
    whole = recipe(learning_rates=[1e-3, 1e-2, 1e-1], sweep_seeds=None)
    swept(whole, tmp_path, best_at(1e-2))
    _, engine = swept(recipe(), tmp_path, best_at(1e-2))
    assert engine.performed == []


def test_each_method_sweeps_its_own_settings(tmp_path):
    methods = [
        {"name": "lora", "r": 2, "sweep": {"adapter": {"alpha": [2, 4]}}},
        {"name": "full", "sweep": {"learning_rate": [1e-4, 1e-3]}},
    ]
    grid = recipe(methods=methods, learning_rates=[1e-2, 1e-1], seeds=[0], widenings=0)

    def score(run):
        return 0.5 + 0.1 * (getattr(run.method.adapter, "alpha", None) == 4)

    (lora, full), engine = swept(grid, tmp_path, score)
    assert len(engine.performed) == 2 * 2 + 2
    assert lora.best().others == (("adapter.alpha", 4),)
    assert {point.learning_rate for point in full.points} == {1e-4, 1e-3}
    (at_best, *_) = [run for run in engine.performed if run.name == lora.best_runs()[0].run]
    assert at_best.method.adapter.alpha == 4


def test_retention_is_measured_once_for_the_chosen_runs(tmp_path):
    sweeps, engine = swept(recipe(), tmp_path, best_at(1e-2))
    found = read_retention(sweeps, tmp_path, engine=engine)
    chosen = {run.run for method in sweeps for run in method.best_runs()}
    assert found.keys() == {run.name for run in engine.measured} == chosen
    again = MadeUpEngine(best_at(1e-2))
    assert read_retention(sweeps, tmp_path, engine=again) == found
    assert again.measured == []


@pytest.mark.parametrize(
    ("name", "asked", "is_measured"),
    [
        ("digits", None, True),
        ("digits", False, False),
        ("generation-tutorial", None, False),
        ("generation-tutorial", True, True),
        ("glue-tutorial", True, True),
        ("abm-vtab", None, False),
    ],
)
def test_retention_is_measured_where_it_is_asked_for_or_takes_no_time(name, asked, is_measured):
    loaded = load_recipe(name, {} if asked is None else {"compare": {"retention": asked}})
    assert measures_retention(loaded) is is_measured


def test_a_measure_that_the_task_does_not_know_is_refused_before_a_run_begins():
    with pytest.raises(SettingsError, match="cifar100 knows no measure"):
        measures_retention(load_recipe("abm-vtab", {"compare": {"retention": True}}))
