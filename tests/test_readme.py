"""The README's Python runs as it stands there, on a tiny model."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch.utils.data import Dataset
from transformers import TrainingArguments

from tests.models.architectures import VOCABULARY, llama

README = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


class Rows(Dataset):
    """Four rows of random tokens."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        tokens = torch.randint(1, VOCABULARY, (6,), generator=generator)
        return {"input_ids": tokens, "labels": tokens}


@pytest.fixture
def names(tmp_path, monkeypatch):
    """What the examples take for granted."""
    monkeypatch.chdir(tmp_path)
    rows = Rows()
    batch = {key: torch.stack([row[key] for row in (rows[i] for i in range(4))]) for key in rows[0]}
    arguments = TrainingArguments("trained", max_steps=3, report_to=[], use_cpu=True)
    return {"batches": [batch], "dataset": rows, "arguments": arguments}


# The example is written for a training of more than three steps.
@pytest.mark.filterwarnings("ignore:this chain will never fold")
def test_every_example_runs(names, tmp_path):
    assert len(BLOCKS) == 5
    for block in BLOCKS:
        names["base"] = llama(num_hidden_layers=2, hidden_size=16, intermediate_size=24)
        exec(block, names)
    assert (tmp_path / "out" / "adapter_model.safetensors").exists()
