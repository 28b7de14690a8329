"""A text or a pair of the user's own columns, found or named, as tokens with labels."""

from __future__ import annotations

import pytest
import torch

from rankwise.core.errors import DataError, SettingsError
from rankwise.tasks.own.division import Cut
from rankwise.tasks.own.source import Source
from rankwise.tasks.own.text_classification import TextClassification
from tests.models.saved import make_bert
from tests.tasks.own.own_files import reviews, write_csv


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    words = [text for text, _ in reviews()]
    return make_bert(tmp_path_factory.mktemp("bert") / "model", words)


@pytest.fixture
def task_of(tmp_path, bert):
    def make(header, rows, *, source=None, **options):
        file = write_csv(tmp_path / f"{'-'.join(header)}.csv", header, rows)
        return TextClassification(Source(file, **(source or {})), Cut(), bert, **options)

    return make


def test_rows_become_tokens_and_classes(task_of):
    task = task_of(["id", "review", "stars"], [[n, *row] for n, row in enumerate(reviews())])
    splits = task.splits()
    assert splits.facts["columns"] == {
        "text": ["review"],
        "label": "stars",
        "target": "classes",
        "classes": ["bad", "good"],
    }
    assert [len(splits.train), len(splits.validation), len(splits.test)] == [16, 2, 2]
    batch = splits.train.take(torch.arange(16))
    texts = task.tokenizer().batch_decode(batch["input_ids"], skip_special_tokens=True)
    numbers = [int(text.split()[2]) for text in texts]
    assert batch["labels"].tolist() == [number % 2 for number in numbers]
    assert task.metrics == ("accuracy", "macro_f1")


def test_the_model_has_a_head_of_the_classes_with_their_names(task_of, tmp_path):
    model = task_of(["text", "label"], reviews()).base_model(tmp_path)
    assert model.config.id2label == {0: "bad", 1: "good"}
    assert model.classifier.out_features == 2


def test_a_pair_of_texts_is_read_as_one_row(task_of):
    rows = [[f"film {n}", "fine", n / 10] for n in range(20)]
    task = task_of(["sentence1", "sentence2", "score"], rows)
    batch = task.splits().train.take(slice(0, 1))
    assert task.tokenizer().decode(batch["input_ids"][0]).count("</s>") == 2
    assert batch["labels"].dtype == torch.float32
    assert task.metrics == ("pearson", "spearman", "r2")
    assert task.model_options == {"num_labels": 1, "problem_type": "regression"}


def test_long_texts_are_cut_and_counted(task_of):
    splits = task_of(["text", "label"], reviews(), max_length=4).splits()
    assert splits.facts["train"]["truncated"] == 16
    assert splits.train.take(slice(0, 9))["input_ids"].shape[1] == 4
    with pytest.raises(SettingsError, match=r"task\.max_length must be at most 64, .* got 65"):
        task_of(["text", "label"], reviews(), max_length=65).splits()


def test_texts_with_several_labels_are_counted(task_of):
    rows = [*reviews(), ["film number 1 is fine", "bad"]]
    assert task_of(["text", "label"], rows).splits().facts["columns"]["contradicting"] == 1


def test_a_column_that_is_not_there_is_refused_and_the_nearest_named(task_of):
    with pytest.raises(DataError, match=r"no column 'reviw'; did you mean 'review'\?"):
        task_of(["review", "label"], reviews(), text=("reviw",)).splits()
    with pytest.raises(DataError, match=r"no column 'lable'; did you mean 'label'\?"):
        task_of(["review", "label"], reviews(), label="lable").splits()


def test_a_doubt_about_columns_is_refused_with_the_setting_that_ends_it(task_of):
    rows = [[text, text[::-1], label] for text, label in reviews()]
    with pytest.raises(DataError, match=r"which column is the text\? set --task\.text to one of"):
        task_of(["a", "b", "label"], rows).splits()
    with pytest.raises(DataError, match=r"which column is the label\? set --task\.label to one"):
        task_of(["text", "b", "c"], rows, text=("text",)).splits()


def test_empty_texts_are_refused(task_of):
    with pytest.raises(DataError, match=r"column 'text': 1 of 21 rows are empty \(row 21\)"):
        task_of(["text", "label"], [*reviews(), [" ", "good"]]).splits()


@pytest.mark.parametrize("metric", ["pearson", "perplexity"])
def test_a_metric_of_other_answers_is_refused(task_of, metric):
    task = task_of(["text", "label"], reviews(), asked_metrics=(metric,))
    with pytest.raises(SettingsError, match=rf"'{metric}' does not fit classes: choose from accur"):
        task.splits()
