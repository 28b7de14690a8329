"""A comparison from beginning to end, by runs whose scores are made up."""

from __future__ import annotations

import pytest

from rankwise.comparison.sweep import read_test, sweep
from rankwise.core.errors import AdapterError
from rankwise.training.folder import RunFolder
from rankwise.training.records import FailedRun
from rankwise.training.settings.recipe import load_recipe
from tests.comparison.made_up_runs import MadeUpEngine, Nobody, best_at

pytestmark = pytest.mark.usefixtures("no_base_model")


def recipe(**comparison):
    methods = [{"name": "lora", "r": 2}, {"name": "delora", "r": 2}]
    known = {"methods": methods, "learning_rates": [1e-3, 1e-2, 1e-1], "seeds": [0, 1, 2]}
    return load_recipe("digits", {"compare": known | comparison})


def swept(recipe, output, score):
    engine = MadeUpEngine(score)
    return sweep(recipe, output, engine=engine, watcher=Nobody()), engine


def test_every_method_runs_every_rate_with_every_seed(tmp_path):
    watcher, engine = Nobody(), MadeUpEngine(best_at(1e-2))
    sweeps = sweep(recipe(), tmp_path, engine=engine, watcher=watcher)
    assert len(engine.performed) == watcher.planned == len(watcher.records) == 2 * 3 * 3
    assert [method.best() for method in sweeps] == [1e-2, 1e-2]
    assert all([run.seed for run in method.best_runs()] == [0, 1, 2] for method in sweeps)


def test_a_grid_grows_while_its_best_is_at_an_edge_and_as_often_as_allowed(tmp_path):
    sweeps, _ = swept(recipe(), tmp_path / "free", best_at(1.0))
    assert all(max(method.rates) == 10.0 for method in sweeps)
    sweeps, _ = swept(recipe(widenings=1), tmp_path / "once", best_at(1.0))
    assert all(max(method.rates) == 1.0 for method in sweeps)


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
    assert {run.seed for run in engine.performed} == {1}
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
