"""Models and tokenizers that others made: their weights are read, their code is not run."""

from __future__ import annotations

import json
import sys

import pytest
from huggingface_hub import constants
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForCausalLM,
    AutoModelForImageClassification,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
)

from rankwise.core.errors import ModelError
from rankwise.tasks.pretrained import _check_hub, from_pretrained

KINDS = [
    *(AutoConfig, AutoImageProcessor, AutoTokenizer, AutoModelForCausalLM, AutoModelForSeq2SeqLM),
    *(AutoModelForImageClassification, AutoModelForSequenceClassification),
    AutoModelForTokenClassification,
]


@pytest.mark.parametrize("kind", KINDS)
def test_code_that_comes_with_a_model_is_not_run(tmp_path, monkeypatch, kind):
    (tmp_path / "modeling.py").write_text("import ran_code\n")
    classes = {"AutoConfig": "modeling.C", kind.__name__: "modeling.M"}
    classes["AutoTokenizer"] = ["modeling.T", None]
    content = {"model_type": "of-its-own", "auto_map": classes}
    (tmp_path / "config.json").write_text(json.dumps(content))
    for name in ("tokenizer_config.json", "preprocessor_config.json"):
        (tmp_path / name).write_text(json.dumps({"auto_map": classes}))
    # Transformers asks on a terminal whether it may, and takes what it reads for the answer.
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    with pytest.raises(ModelError, match="needs code that comes with it, which Rankwise does not"):
        from_pretrained(kind, str(tmp_path))
    assert "ran_code" not in sys.modules


# --- the Hub -----------------------------------------------------------------------------------


def test_a_hub_that_does_not_answer_is_asked_once(hub):
    with pytest.raises(ModelError, match=r"'owner/name' cannot .* Hub cannot be reached") as told:
        from_pretrained(AutoTokenizer, "owner/name")
    assert len(hub) == 1, told.value
    assert f"({constants.ENDPOINT}: " in str(told.value)


def test_offline_no_hub_is_asked(hub, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="Hub cannot be reached"):
        from_pretrained(AutoTokenizer, "owner/name")
    assert not hub


def test_what_the_cache_holds_is_loaded_without_the_hub(hub, tmp_path):
    folder = tmp_path / "cache" / "models--owner--name"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("0" * 40)
    (folder / "snapshots" / ("0" * 40)).mkdir(parents=True)
    config = {"model_type": "bert", "hidden_size": 24}
    (folder / "snapshots" / ("0" * 40) / "config.json").write_text(json.dumps(config))
    _check_hub("owner/name", "config.json")
    assert not hub


def test_a_name_that_is_none_of_the_hub_is_not_asked_for(hub):
    with pytest.raises(ModelError, match="cannot be loaded"):
        from_pretrained(AutoConfig, "no name/of any/kind")
    assert not hub
