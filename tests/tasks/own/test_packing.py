"""Packed rows are learned as padded ones are: the same loss, the same gradient."""

from __future__ import annotations

import pytest
import torch
from transformers import BloomConfig, BloomForCausalLM

from rankwise.core.errors import ModelError
from rankwise.core.labels import IGNORED_LABEL
from rankwise.tasks.own.division import Cut
from rankwise.tasks.own.sft import SupervisedFineTuning
from rankwise.tasks.own.source import Source
from tests.models.saved import make_llama, make_tokenizer
from tests.tasks.own.own_files import write_jsonl

PAIRS = [
    {"question": f"what is {n} " * (1 + n % 3), "answer": f"it is {n}" * (1 + n % 2)}
    for n in range(20)
]
WORDS = [pair["question"] for pair in PAIRS]


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return make_llama(tmp_path_factory.mktemp("llama") / "model", WORDS)


def sft(tmp_path, model, **options):
    file = write_jsonl(tmp_path / "a.jsonl", PAIRS)
    return SupervisedFineTuning(Source(file), Cut(), model, max_length=64, **options)


def loss_and_gradient(task, tmp_path):
    """Return both on all training rows, as one batch."""
    model, rows = task.base_model(tmp_path), task.splits().train
    loss = model(**rows.take(torch.arange(len(rows))))["loss"]
    loss.backward()
    return loss.detach(), model.model.layers[0].self_attn.q_proj.weight.grad


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("counted", ["completion", "all"])
def test_loss_and_gradient_are_those_of_padded_rows(tmp_path, llama, attention, counted):
    options = {"loss": counted, "attn_implementation": attention}
    padded = loss_and_gradient(sft(tmp_path, llama, **options), tmp_path)
    packed = loss_and_gradient(sft(tmp_path, llama, packing=True, **options), tmp_path)
    torch.testing.assert_close(packed, padded, rtol=1e-5, atol=1e-7)


def test_a_sequence_holds_whole_rows_and_says_where_each_begins(tmp_path, llama):
    whole = sft(tmp_path, llama).splits()
    packed = sft(tmp_path, llama, packing=True).splits()
    batch = packed.train.take(torch.arange(len(packed.train)))
    assert packed.facts["train"]["packs"] == len(packed.train) < len(whole.train) == 16
    begins = batch["position_ids"] == 0
    assert (batch["labels"][begins] == IGNORED_LABEL).all()
    tokens = whole.train.take(torch.arange(16))["attention_mask"].sum()
    assert (batch["position_ids"] > 0).sum() == tokens - 16
    assert "attention_mask" not in batch
    assert "attention_mask" in packed.validation.take(slice(0, 1))


def test_a_model_whose_rows_see_one_another_is_refused(tmp_path):
    tokenizer = make_tokenizer(WORDS, limit=512)
    config = BloomConfig(vocab_size=len(tokenizer), hidden_size=16, n_layer=1, n_head=2)
    BloomForCausalLM(config).save_pretrained(tmp_path / "bloom")
    tokenizer.save_pretrained(tmp_path / "bloom")
    name = str(tmp_path / "bloom")
    assert sft(tmp_path, name).base_model(tmp_path)
    with pytest.raises(ModelError, match=r"packing: in .*bloom \(bloom, attention \w+\) the rows"):
        sft(tmp_path, name, packing=True).base_model(tmp_path)


def test_a_run_can_be_rehearsed_without_weights(tmp_path, llama):
    found = sft(tmp_path, llama, packing=True).rehearse()
    assert set(found.batch) == {"input_ids", "labels"}
