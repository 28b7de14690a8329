"""The task digits: real data, one fixed split, a base that knows 0-4 and not 5-9."""

from __future__ import annotations

import pytest
import torch
from sklearn.datasets import load_digits

from rankwise.evaluation.scores import evaluate
from rankwise.tasks.digits import DigitsTask
from rankwise.tasks.pixels import PixelClassifier


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("base")


@pytest.fixture(scope="module")
def base(cache):
    return DigitsTask().base_model(cache)


def assert_same_weights(first, second):
    for ours, theirs in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_the_split_is_60_20_20_of_the_second_half():
    splits = DigitsTask().splits()
    sizes = [len(split) for split in (splits.train, splits.validation, splits.test)]
    assert sum(sizes) == (load_digits().target >= 5).sum() == 896
    assert sizes == [537, 179, 180]


def test_no_row_is_in_two_splits():
    splits = DigitsTask().splits()
    pixels = [
        {tuple(row.tolist()) for row in split.columns["features"]}
        for split in (splits.train, splits.validation, splits.test)
    ]
    assert not pixels[0] & pixels[1]
    assert not pixels[0] & pixels[2]
    assert not pixels[1] & pixels[2]


def test_labels_are_the_digits_less_five_and_pixels_lie_in_the_unit_interval():
    columns = DigitsTask().splits().train.columns
    assert columns["labels"].unique().tolist() == [0, 1, 2, 3, 4]
    assert columns["features"].min() == 0
    assert columns["features"].max() == 1


def test_another_seed_is_another_split():
    first, second = DigitsTask(seed=0).splits(), DigitsTask(seed=1).splits()
    assert not torch.equal(first.test.columns["features"], second.test.columns["features"])


def test_the_base_does_not_know_the_second_half(base):
    assert evaluate(base, DigitsTask().splits().test, DigitsTask()).score < 0.4


def test_the_base_is_trained_once_and_then_read(cache, base, monkeypatch):
    monkeypatch.setattr(DigitsTask, "_pretrain", lambda *_: pytest.fail("trained again"))
    again = DigitsTask().base_model(cache)
    assert_same_weights(base, again)


def test_pretraining_is_reproducible_and_leaves_the_global_random_state(tmp_path):
    state = torch.get_rng_state()
    first = DigitsTask(pretrain_epochs=1).base_model(tmp_path / "a")
    torch.rand(7)
    second = DigitsTask(pretrain_epochs=1).base_model(tmp_path / "b")
    torch.set_rng_state(state)
    DigitsTask(pretrain_epochs=1).base_model(tmp_path / "c")
    assert torch.equal(torch.get_rng_state(), state)
    assert_same_weights(first, second)


def test_without_labels_the_model_returns_logits_alone():
    assert set(PixelClassifier(pixels=64)(torch.zeros(2, 64))) == {"logits"}
