"""Models and tokenizers that others made: their weights are read, their code is not run."""

from __future__ import annotations

import json
import sys

import pytest
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
from rankwise.tasks.pretrained import from_pretrained

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
