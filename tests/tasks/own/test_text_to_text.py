"""Text to text: both sides as tokens, the likelihood of what is written, or what a model writes."""

from __future__ import annotations

import math

import pytest
import torch

from rankwise.core.errors import DataError, ModelError, SettingsError
from rankwise.core.labels import IGNORED_LABEL
from rankwise.evaluation.scores import evaluate
from rankwise.tasks.own.division import Cut
from rankwise.tasks.own.sft import SupervisedFineTuning
from rankwise.tasks.own.source import Source
from rankwise.tasks.own.text_to_text import TextToText
from tests.models.saved import make_t5
from tests.tasks.own.own_files import write_jsonl

ROWS = [{"article": f"what is {n} and {n}", "summary": f"it is {n}"} for n in range(20)]


@pytest.fixture(scope="module")
def t5(tmp_path_factory):
    texts = [text for row in ROWS for text in row.values()]
    return make_t5(tmp_path_factory.mktemp("t5") / "model", texts, gated=True)


def text_to_text(tmp_path, model, rows=ROWS, **options):
    return TextToText(Source(write_jsonl(tmp_path / "a.jsonl", rows)), Cut(), model, **options)


def test_both_texts_end_with_the_end_token(tmp_path, t5):
    task = text_to_text(tmp_path, t5)
    splits = task.splits()
    assert splits.facts["columns"] == {"prompt": "article", "completion": "summary"}
    batch = splits.train.take(slice(0, 4))
    decode = task.tokenizer().decode
    assert decode(batch["input_ids"][0][batch["attention_mask"][0] == 1]) == ("what is 0 and 0</s>")
    assert decode(batch["labels"][0][batch["labels"][0] != IGNORED_LABEL]) == "it is 0</s>"


def test_the_likelihood_is_that_of_the_loss(tmp_path, t5):
    task = text_to_text(tmp_path, t5)
    found = evaluate(task.base_model(tmp_path), task.splits().test, task)
    assert found.score == pytest.approx(math.exp(-found.loss), rel=1e-5)
    assert list(found.scores) == ["likelihood", "perplexity"]


def test_metrics_of_texts_let_the_model_write(tmp_path, t5):
    task = text_to_text(tmp_path, t5, asked_metrics=("exact_match", "rougeL"), max_target_length=5)
    rows = task.splits().test
    model = task.base_model(tmp_path)
    found = evaluate(model, rows, task)
    assert found.labels == [
        task.tokenizer().decode(labels[labels != IGNORED_LABEL], skip_special_tokens=True)
        for labels in rows.take(torch.arange(len(rows)))["labels"]
    ]
    assert all(isinstance(each, str) for each in found.predictions)
    assert list(found.scores) == ["exact_match", "rougeL"]


def test_metrics_of_texts_and_of_tokens_do_not_mix(tmp_path, t5):
    task = text_to_text(tmp_path, t5, asked_metrics=("likelihood", "rouge1"))
    with pytest.raises(SettingsError, match="'likelihood' does not fit texts: choose from exact_m"):
        task.splits()


def test_what_is_cut_is_counted_on_both_sides(tmp_path, t5):
    rows = [*ROWS, {"article": "what " * 30, "summary": "it " * 30}]
    facts = text_to_text(tmp_path, t5, rows, max_length=20, max_target_length=10).splits().facts
    splits = [facts[split] for split in ("train", "validation", "test")]
    assert sum(each["truncated"] for each in splits) == 1
    assert sum(each["truncated_targets"] for each in splits) == 1


def test_a_model_of_another_kind_is_named_without_the_list_of_all(tmp_path, t5):
    task = SupervisedFineTuning(Source("a.jsonl"), Cut(), t5)
    with pytest.raises(
        ModelError, match=r"\(T5Config\) is none for AutoModelForCausalLM: choose a"
    ):
        task.base_model(tmp_path)


def test_columns_that_cannot_be_told_are_asked_for(tmp_path, t5):
    with pytest.raises(DataError, match=r"which columns are read and written\? set --task\.prompt"):
        text_to_text(tmp_path, t5, [{"a": "x", "b": "y"}]).splits()
