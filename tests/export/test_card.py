"""A card whose metadata the Hub reads: the base by its name, the library, and no licence."""

from __future__ import annotations

import pytest
from huggingface_hub import ModelCard

from rankwise.export.card import export_card, start_card


def record(*, model=None, kind="lora"):
    task = {"name": "mrpc"} if model is None else {"name": "mrpc", "model": model}
    method = {"name": "m", "adapter": {"kind": kind}}
    return {
        "settings": {"task": task, "method": method},
        "versions": {"torch": "2"},
        "commit": "abc",
        "metric": "accuracy",
        "score_validation": 0.5,
    }


def test_the_metadata_name_base_library_and_tags():
    card = ModelCard(export_card(record(model="FacebookAI/roberta-base"), target="lora", found="x"))
    assert card.data.to_dict() == {
        "base_model": "FacebookAI/roberta-base",
        "library_name": "peft",
        "tags": ["rankwise", "lora"],
    }
    assert card.text.lstrip().startswith("# m on mrpc")
    assert "- accuracy on validation: 0.5000" in card.text


@pytest.mark.parametrize("model", [None, "small", ".", "package:gt_all/model", "/no/such/folder"])
def test_a_base_that_is_not_on_the_hub_is_not_linked(model):
    card = ModelCard(start_card(record(model=model)))
    assert card.data.base_model is None
    assert card.data.library_name == "peft"


def test_merged_weights_are_no_adapter():
    card = ModelCard(export_card(record(model="a/b"), target="merged", found="x"))
    assert card.data.to_dict() == {"base_model": "a/b", "tags": ["rankwise"]}


@pytest.mark.parametrize(("kind", "is_needed"), [("lora", False), ("delora", True)])
def test_the_card_of_a_start_says_whether_rankwise_is_needed(kind, is_needed):
    assert ("import rankwise" in start_card(record(kind=kind))) is is_needed


def test_a_federation_of_0_1_recorded_no_versions():
    told = export_card(record() | {"commit": None}, target="lora", found="x")
    assert "commit" not in told
    told = export_card(record() | {"versions": {}, "commit": None}, target="lora", found="x")
    assert "## Versions" not in told
    assert "## Settings" in told
