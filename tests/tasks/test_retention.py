"""What is left of what a base knew: nothing is lost of a base itself, and much of a broken one."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from rankwise.core.errors import ModelError
from rankwise.tasks.digits import DigitsTask
from rankwise.tasks.retention import (
    LONGEST,
    RetentionTask,
    general_texts,
    remember_features,
    remember_loss,
)
from tests.models.architectures import t5
from tests.models.saved import make_bert, make_llama


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    task = DigitsTask(pretrain_epochs=5)
    return task, task.base_model(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def causal(tmp_path_factory):
    name = make_llama(tmp_path_factory.mktemp("llama"), general_texts())
    return AutoModelForCausalLM.from_pretrained(name), AutoTokenizer.from_pretrained(name)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    name = make_bert(tmp_path_factory.mktemp("bert"), general_texts())
    model = AutoModelForSequenceClassification.from_pretrained(name)
    return model, AutoTokenizer.from_pretrained(name)


def scaled(model, name, factor):
    """A copy of the model with one weight multiplied."""
    changed = copy.deepcopy(model)
    with torch.no_grad():
        changed.get_parameter(name).mul_(factor)
    return changed


def test_the_base_of_the_digits_knows_its_own_half_and_loses_nothing_by_itself(digits):
    task, base = digits
    assert isinstance(task, RetentionTask)
    found = task.remember(base)(base)
    assert found.before == found.after > 0.8
    assert found.forgetting == 0


def test_the_digits_are_asked_through_the_head_of_the_base(digits):
    task, base = digits
    read = task.remember(base)
    assert read(scaled(base, "layers.4.weight", -1)).forgetting == 0
    broken = read(scaled(base, "layers.2.weight", -1))
    assert broken.forgetting == pytest.approx(broken.before - broken.after)
    assert broken.forgetting > 0.3


def test_the_rows_of_the_base_are_not_those_that_it_was_made_of(digits):
    task, _ = digits
    splits = task.base_splits()
    made_of, asked = (
        {tuple(row.tolist()) for row in rows.columns["features"]}
        for rows in (splits.train, splits.test)
    )
    assert not made_of & asked


def test_the_loss_of_a_causal_model_is_a_mean_over_all_tokens(causal):
    model, tokenizer = causal
    total = count = 0
    for text in general_texts():
        tokens = tokenizer(text, truncation=True, max_length=LONGEST, return_tensors="pt").input_ids
        terms = tokens.shape[1] - 1
        total += terms * model(input_ids=tokens, labels=tokens).loss.item()
        count += terms
    found = remember_loss(model, tokenizer)(model)
    assert found.before == pytest.approx(total / count, rel=1e-5)
    assert found.forgetting == 0
    worse = remember_loss(model, tokenizer)(scaled(model, "lm_head.weight", 50))
    assert worse.forgetting == worse.after - worse.before > 0


def test_the_features_of_an_encoder_move_with_its_weights_and_not_with_its_head(encoder):
    model, tokenizer = encoder
    read = remember_features(model, tokenizer)
    assert read(model).forgetting == 0
    assert read(scaled(model, "classifier.weight", 3)).forgetting == 0
    name = "bert.encoder.layer.1.output.LayerNorm.weight"
    # The features are this weight times what is normalised, and its bias is zero.
    assert read(scaled(model, name, 1.25)).forgetting == pytest.approx(0.25, rel=1e-5)


def test_a_model_with_a_decoder_is_no_encoder_alone(encoder):
    _, tokenizer = encoder
    with pytest.raises(ModelError, match="no encoder alone"):
        remember_features(t5(), tokenizer)


def test_a_model_is_left_in_its_mode(causal):
    model, tokenizer = causal
    model.train()
    remember_loss(model, tokenizer)(model)
    assert model.training


def test_the_texts_are_prose_of_some_length():
    assert len(set(general_texts())) == len(general_texts()) >= 10
    assert all(len(text.split()) > 40 for text in general_texts())
