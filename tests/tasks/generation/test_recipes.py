"""The papers' generation recipes go through without data and weights, and count right."""

from __future__ import annotations

import pytest

from rankwise.training.probes.dry_run import dry_run
from rankwise.training.settings.recipe import load_recipe

# Layers × (inputs + outputs of q, k, v, o, gate, up and down).
MISTRAL = 32 * (8192 + 5120 + 5120 + 8192 + 3 * (4096 + 14336))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "overrides", "adapter"),
    [
        ("sb-arithmetic", {}, 32 * 7 * 96**2),
        (
            "sb-arithmetic",
            {"task": {"model": "google/gemma-2-9b"}, "method": {"r": 64}},
            42 * 7 * 64**2,
        ),
        ("sb-commonsense", {}, 28 * 7 * 96**2),
        ("delora-instruct", {}, 32 * 2 * (8 * (4096 + 4096) + 1)),
        ("abm-dialogue", {}, 32 * 8 * (4 * 8192 + 3 * (4096 + 11008))),
        (
            "generation-tutorial",
            {"task": {"model": "small"}, "method": {"name": "lora-sb", "r": 32}},
            4 * 7 * 32**2,
        ),
    ],
)
def test_the_adapter_trains_what_its_paper_says(recipe, overrides, adapter):
    method = {"published_parameters": None} if "task" in overrides else {}
    method |= overrides.get("method", {})
    found = dry_run(load_recipe(recipe, overrides | {"method": method}).run())
    assert found.parameters.adapter == adapter
    assert found.agrees


def test_the_baseline_of_the_arithmetic_is_the_papers():
    comparison = load_recipe("sb-arithmetic").compare
    lora = next(each for each in comparison.methods if each.name == "lora")
    assert MISTRAL * lora.r == 83_886_080
    assert lora.published_parameters == "83.88M"


def test_steps_are_those_of_the_papers():
    arithmetic = load_recipe("sb-arithmetic").run()
    assert arithmetic.training.batch_size * arithmetic.training.accumulation_steps == 32
    assert load_recipe("sb-commonsense").run().training.accumulation_steps == 24
