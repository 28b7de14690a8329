"""The ms-swift tuners, against stand-ins for the two names that they use of ms-swift 4.6."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
from peft import PeftModel

from rankwise.core.errors import SettingsError
from rankwise.methods.adapters.bridge import adapted_layers
from tests.models.language import language_model


class PeftTuner:
    """As in ``swift.tuner_plugin``: saving and loading by PEFT."""

    @staticmethod
    def save_pretrained(model, save_directory, safe_serialization=True, **kwargs):
        model.save_pretrained(save_directory, safe_serialization=safe_serialization, **kwargs)

    @staticmethod
    def from_pretrained(model, model_id, **kwargs):
        return PeftModel.from_pretrained(model, model_id, **kwargs)


@pytest.fixture
def tuners(monkeypatch):
    """Return ms-swift's table of tuners after our file was imported as an external plugin."""
    plugin = ModuleType("swift.tuner_plugin")
    plugin.PeftTuner, plugin.tuners_map = PeftTuner, {"ia3": object}
    monkeypatch.setitem(sys.modules, "swift", ModuleType("swift"))
    monkeypatch.setitem(sys.modules, plugin.__name__, plugin)
    monkeypatch.delitem(sys.modules, "rankwise.integrations.swift", raising=False)
    importlib.import_module("rankwise.integrations.swift")
    yield plugin.tuners_map
    monkeypatch.delitem(sys.modules, "rankwise.integrations.swift", raising=False)


def arguments(**changed) -> SimpleNamespace:
    known = {"lora_rank": 4, "lora_dropout": 0.05, "target_modules": ["all-linear"]}
    return SimpleNamespace(**known | changed)


@pytest.mark.parametrize("name", ["rankwise_xs", "rankwise_delora"])
def test_a_tuner_attaches_saves_and_loads(tuners, name, tmp_path):
    model = tuners[name].prepare_model(arguments(), language_model())
    assert len(adapted_layers(model)) == 14
    tuners[name].save_pretrained(model, str(tmp_path))
    loaded = tuners[name].from_pretrained(language_model(), str(tmp_path), is_trainable=True)
    assert any(p.requires_grad for p in loaded.parameters())
    for mine, theirs in zip(model.parameters(), loaded.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_the_tuners_of_swift_stay(tuners):
    assert set(tuners) == {"ia3", "rankwise_xs", "rankwise_delora"}


def test_names_beside_all_linear_are_refused(tuners):
    mixed = arguments(target_modules=["all-linear", "lm_head"])
    with pytest.raises(SettingsError, match=r"mixes all-linear with names"):
        tuners["rankwise_xs"].prepare_model(mixed, language_model())
