"""The smoke test of an export: what vLLM is given, and what is refused."""

from __future__ import annotations

import datasets
import pytest

from rankwise.core.errors import AdapterError, SettingsError
from rankwise.training import serving
from rankwise.training.publishing import publish_lora
from rankwise.training.run import train_run
from rankwise.training.settings.recipe import load_recipe
from tests.models.saved import make_llama
from tests.tasks.own.own_files import reviews, write_jsonl

pytestmark = pytest.mark.runs


class Engine:
    """Notes with what vLLM is opened, and answers with ``tokens``."""

    tokens = (5, 6)

    @classmethod
    def open(cls, base, adapter, *, dtype, **_):
        cls.opened = (base, adapter, dtype)
        return cls()

    def generate(self, prompts, decoding, *, seed):
        return [list(self.tokens) for _ in prompts]


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(serving, "VllmEngine", Engine)
    rows = [{"prompt": f"is {text}?", "completion": label} for text, label in reviews()]
    model = make_llama(tmp_path / "model", [text for text, _ in reviews()])
    settings = load_recipe(
        write_jsonl(tmp_path / "q.jsonl", rows),
        {"task": {"model": model}, "method": {"r": 1}, "training": {"epochs": 1}},
    ).run()
    train_run(settings, tmp_path / "out")
    return tmp_path / "out" / "runs" / settings.name


def test_vllm_gets_the_base_and_the_lora(run, tmp_path, monkeypatch):
    publish_lora(run, tmp_path / "lora")
    assert serving.check_vllm(run, tmp_path / "lora") == 2
    assert Engine.opened == (str(tmp_path / "model"), tmp_path / "lora", "float32")
    monkeypatch.setattr(Engine, "tokens", ())
    with pytest.raises(AdapterError, match="wrote nothing"):
        serving.check_vllm(run, tmp_path / "lora")


def test_a_model_that_does_not_write_is_refused(tmp_path):
    overrides = {"method": {"name": "lora", "r": 1}, "training": {"epochs": 1}}
    settings = load_recipe("digits", overrides).run()
    train_run(settings, tmp_path)
    with pytest.raises(SettingsError, match="needs a causal model with files"):
        serving.check_vllm(tmp_path / "runs" / settings.name, tmp_path)
