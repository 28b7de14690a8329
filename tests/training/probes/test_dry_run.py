"""Every shipped recipe goes through without data, weights and a network, and counts right."""

from __future__ import annotations

import pytest

from rankwise.core.errors import ModelError
from rankwise.tasks.architectures import architecture_names
from rankwise.tasks.vtab.definitions import DEFINITIONS as VTAB
from rankwise.tasks.vtab.definitions import GROUPS
from rankwise.training.probes.dry_run import dry_run, is_rounded_to
from rankwise.training.settings.recipe import load_recipe

pytestmark = pytest.mark.runs

VTAB_GROUPS = [[name for name in VTAB if VTAB[name].group == group] for group in GROUPS]
ON_GLUE = ("abm-glue", "delora-glue", "rac-glue", "sb-glue")


def dry(recipe, **overrides):
    return dry_run(load_recipe(recipe, overrides).run())


# One sentence, a regression, three classes, and a task that no paper covers.
GLUE_TASKS = ("cola", "stsb", "mnli", "wnli")
SAMPLED = list(zip(ON_GLUE, GLUE_TASKS, strict=True))


def on_glue(recipe, task):
    """Each recipe on one task, and each task by one recipe; the other pairs are a sweep."""
    marks = pytest.mark.slow if (recipe, task) not in SAMPLED else ()
    return pytest.param(recipe, task, marks=marks)


@pytest.mark.parametrize(
    ("recipe", "task"), [on_glue(recipe, task) for recipe in ON_GLUE for task in GLUE_TASKS]
)
def test_a_recipe_goes_through_on_every_kind_of_task(recipe, task):
    found = dry(recipe, task={"name": task})
    assert found.agrees
    assert found.steps > 0


@pytest.mark.parametrize(
    ("recipe", "adapter"),
    [("sb-glue", 24 * 4 * 24**2), ("delora-glue", 12 * 2 * (8 * 2 * 768 + 1))],
)
def test_the_adapter_trains_what_its_paper_says(recipe, adapter):
    found = dry(recipe)
    assert found.parameters.adapter == adapter
    assert found.published is not None


def test_a_chain_trains_one_of_its_factors():
    assert dry("rac-glue").parameters.adapter == 12 * 2 * 2 * 768


def test_steps_follow_from_rows_batches_and_epochs():
    found = dry("delora-glue", task={"name": "rte"})
    assert found.steps == 78 * 80  # 2,490 rows in batches of 32


def test_training_rows_may_be_limited():
    assert dry("sb-glue", task={"rows": 64}).steps == 2 * 30


@pytest.mark.parametrize("recipe", ["digits", "rac-mnist"])
def test_small_networks_need_neither_data_nor_a_base(recipe, monkeypatch):
    monkeypatch.delenv("RANKWISE_DATA", raising=False)
    assert dry(recipe).parameters.head == 0


@pytest.mark.parametrize("name", [names[0] for names in VTAB_GROUPS])
def test_a_vision_transformer_is_adapted_in_attention_and_mlp_beside_a_fresh_head(name):
    found = dry("abm-vtab", task={"name": name})
    attention, mlp = 4 * (768 + 768), 2 * (768 + 3072)
    assert found.parameters.adapter == 12 * 8 * (attention + mlp)
    assert found.parameters.head == (768 + 1) * VTAB[name].classes
    assert found.steps == 13 * 100  # 800 images in batches of 64


def test_the_final_run_of_vtab_trains_on_all_the_images():
    assert dry("abm-vtab", task={"protocol": "final"}).steps == 16 * 100


def test_another_rank_does_not_agree():
    assert not dry("sb-glue", method={"r": 16}).agrees


def test_weights_and_state_are_counted():
    found = dry("sb-glue")
    trained = sum(found.parameters)
    fixed = 24 * 24 * (3 * (1024 + 1024) + 1024 + 4096)
    assert 355e6 < found.weights - fixed < 360e6  # RoBERTa-large
    # What is left are RoBERTa's numbers of positions.
    assert 0 <= found.state_bytes - 4 * found.weights - 12 * trained < 1e4


def test_a_model_whose_configuration_does_not_ship_is_refused():
    with pytest.raises(ModelError, match=r"no configuration of 'roberta-base' ships.*roberta-base"):
        dry("delora-glue", task={"model": "roberta-base"})
    assert "FacebookAI/roberta-large" in architecture_names()


@pytest.mark.parametrize(
    ("printed", "agrees"), [("55.3K", True), ("55.2K", True), ("0.1M", True), ("55.5K", False)]
)
def test_a_count_is_compared_to_the_digits_that_are_printed(printed, agrees):
    assert is_rounded_to(55_296, printed) is agrees
