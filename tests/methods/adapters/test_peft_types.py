"""Our types in PEFT's tables."""

from __future__ import annotations

import pytest
import torch
from peft import PeftConfig
from peft.mapping import (
    PEFT_TYPE_TO_CONFIG_MAPPING,
    PEFT_TYPE_TO_PREFIX_MAPPING,
    PEFT_TYPE_TO_TUNER_MAPPING,
)

from rankwise.methods.adapters.delora import DeloraConfig, DeloraModel
from rankwise.methods.adapters.lora_xs import LoraXSConfig, LoraXSModel
from rankwise.methods.adapters.peft_types import RankwisePeftType, current_names

ENTRIES = [
    (RankwisePeftType.RANKWISE_XS, LoraXSConfig, LoraXSModel),
    (RankwisePeftType.RANKWISE_DECOUPLED, DeloraConfig, DeloraModel),
]


@pytest.mark.parametrize(("peft_type", "config_class", "tuner_class"), ENTRIES)
def test_a_type_is_found_by_member_and_by_string(peft_type, config_class, tuner_class):
    for key in (peft_type, str(peft_type.value)):
        assert PEFT_TYPE_TO_CONFIG_MAPPING[key] is config_class
        assert PEFT_TYPE_TO_TUNER_MAPPING[key] is tuner_class
        assert PEFT_TYPE_TO_PREFIX_MAPPING[key] == tuner_class.prefix


@pytest.mark.parametrize(("peft_type", "config_class", "tuner_class"), ENTRIES)
def test_names_are_such_that_loaders_recognise_them(peft_type, config_class, tuner_class):
    layer_class = tuner_class.linear_class
    assert peft_type.name == peft_type.value
    assert tuner_class.prefix == f"{peft_type.value.lower()}_"
    for name in layer_class.adapter_layer_names + layer_class.frozen_names:
        assert name.startswith(tuner_class.prefix)
        assert "lora_" not in name
    assert "Linear" in layer_class.__name__  # PEFT's "all-linear" goes by the class's name


@pytest.mark.parametrize(("peft_type", "config_class", "tuner_class"), ENTRIES)
def test_a_config_is_read_back_as_it_was(peft_type, config_class, tuner_class, tmp_path):
    config = config_class(r=3, target_modules=["a", "b"], rank_pattern={"a": 2})
    config.save_pretrained(str(tmp_path))
    assert PeftConfig.from_pretrained(str(tmp_path)).to_dict() == {
        **config.to_dict(),
        "target_modules": {"a", "b"},
    }


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("a.rankwise_xs_R", "a.rankwise_xs_R.weight"),
        ("a.rankwise_xs_R.default", "a.rankwise_xs_R.default.weight"),
        ("rankwise_decoupled_norms", "rankwise_decoupled_norms.weight"),
        ("a.rankwise_xs_R.weight", "a.rankwise_xs_R.weight"),
        ("a.rankwise_xs_R.default.weight", "a.rankwise_xs_R.default.weight"),
        ("a.lora_A.weight", "a.lora_A.weight"),
        ("head.bias", "head.bias"),
    ],
)
def test_names_of_0_1_are_read_under_those_of_today(old, new):
    assert current_names({old: torch.ones(1)}) == {new: torch.ones(1)}
