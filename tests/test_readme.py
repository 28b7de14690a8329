"""The README's Python runs as it stands there, on a tiny model and made-up rows."""

from __future__ import annotations

import re
from pathlib import Path

import datasets
import pytest
import transformers

from rankwise.tasks.architectures import word_tokenizer
from tests.models.architectures import llama

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
SHORT = "max_steps=3, report_to=[], use_cpu=True, dataloader_pin_memory=False"
LINKS = re.findall(r"\]\((?!https?:)([^)#]+)", README)


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """What the examples fetch, made here."""
    monkeypatch.chdir(tmp_path)
    rows = [{"question": f"how much is {i} and 1", "answer": f"it is {i + 1}"} for i in range(48)]
    models = transformers.AutoModelForCausalLM
    tokenizer = word_tokenizer(["how much is 1 and it"], llama().config)
    monkeypatch.setattr(
        models,
        "from_pretrained",
        lambda _: llama(num_hidden_layers=2, hidden_size=32, intermediate_size=40),
    )
    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", lambda _: tokenizer)
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: datasets.Dataset.from_list(rows))


# The example of a chain is written for a training of more than three steps.
def test_every_example_runs(elsewhere, tmp_path):
    assert len(BLOCKS) == 4
    whole, *others = BLOCKS
    names = {}
    assert '"trained", ' in whole
    exec(whole.replace('"trained", ', f'"trained", {SHORT}, '), names)
    assert (tmp_path / "exported" / "adapter_model.safetensors").exists()
    for block in others:
        names["base"] = names["AutoModelForCausalLM"].from_pretrained(names["name"])
        exec(block, names)
    names["trainer"].train()


def test_every_file_that_it_names_is_there():
    assert not [link for link in LINKS if not (ROOT / link).exists()]
