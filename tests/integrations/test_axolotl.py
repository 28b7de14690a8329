"""The Axolotl plugin, against stand-ins for the two classes that it uses of Axolotl 0.19."""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass
from types import ModuleType

import pytest
import torch
from peft import PeftModel

from rankwise.core.errors import SettingsError
from rankwise.methods.adapters.bridge import adapted_layers
from tests.models.language import language_model


@dataclass
class AdapterCapabilities:
    """As in ``axolotl.integrations.base``."""

    name: str
    lora_like: bool = False
    relora: bool = False


class BasePlugin:
    """As in ``axolotl.integrations.base``, the methods that are overridden."""

    def get_input_args(self):
        return None

    def get_adapter_capabilities(self):
        return []

    def load_adapter(self, model, cfg, inference=False, config_only=False):
        return None


class Settings(dict):
    """Axolotl's ``DictDefault``: a key that is not there is None."""

    def __getattr__(self, name):
        return self.get(name)


@pytest.fixture
def axolotl(monkeypatch):
    """Return our module, imported beside stand-ins, and forget it again."""
    base = ModuleType("axolotl.integrations.base")
    base.AdapterCapabilities, base.BasePlugin = AdapterCapabilities, BasePlugin
    for name in ("axolotl", "axolotl.integrations"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, base.__name__, base)
    monkeypatch.delitem(sys.modules, "rankwise.integrations.axolotl", raising=False)
    yield importlib.import_module("rankwise.integrations.axolotl")
    monkeypatch.delitem(sys.modules, "rankwise.integrations.axolotl", raising=False)


def settings(adapter: str, **changed) -> Settings:
    known = {"adapter": adapter, "lora_r": 4, "lora_target_linear": True, "lora_dropout": 0.0}
    return Settings(known | changed)


def test_it_names_its_adapters_and_keys(axolotl):
    plugin = axolotl.RankwisePlugin()
    found = plugin.get_adapter_capabilities()
    assert [each.name for each in found] == ["rankwise_xs", "rankwise_delora"]
    assert not any(each.lora_like for each in found)
    module, _, name = plugin.get_input_args().rpartition(".")
    assert module == axolotl.__name__
    fields = getattr(axolotl, name).model_fields
    assert list(fields) == ["rankwise"]


@pytest.mark.parametrize("adapter", ["rankwise_xs", "rankwise_delora"])
def test_it_attaches_trains_and_loads(axolotl, adapter, tmp_path):
    plugin = axolotl.RankwisePlugin()
    assert plugin.load_adapter(language_model(), settings("lora")) is None
    nothing, config = plugin.load_adapter(language_model(), settings(adapter), config_only=True)
    assert nothing is None
    assert config.r == 4
    model, config = plugin.load_adapter(language_model(), settings(adapter))
    assert isinstance(model, PeftModel)
    assert len(adapted_layers(model)) == 14
    model.save_pretrained(tmp_path)
    loaded_from = settings(adapter, lora_model_dir=str(tmp_path))
    for inference in (False, True):
        loaded, _ = plugin.load_adapter(language_model(), loaded_from, inference=inference)
        assert any(p.requires_grad for p in loaded.parameters()) is not inference
        for mine, theirs in zip(model.parameters(), loaded.parameters(), strict=True):
            assert torch.equal(mine, theirs)


def test_its_own_keys_reach_the_config(axolotl):
    plugin = axolotl.RankwisePlugin()
    own = settings("rankwise_delora", rankwise={"delora_lambda": 4.0})
    _, config = plugin.load_adapter(language_model(), own, config_only=True)
    assert config.delora_lambda == 4.0
    wrong = settings("rankwise_delora", rankwise={"lambda": 4.0})
    with pytest.raises(ValueError, match="lambda"):
        plugin.load_adapter(language_model(), wrong, config_only=True)


def test_keys_that_mean_nothing_here_are_refused(axolotl):
    plugin = axolotl.RankwisePlugin()
    with pytest.raises(SettingsError, match="rankwise_xs takes no peft_use_dora"):
        plugin.load_adapter(language_model(), settings("rankwise_xs", peft_use_dora=True))
