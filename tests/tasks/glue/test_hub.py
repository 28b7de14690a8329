"""GLUE from the Hub, with a data set in its place that has its columns and classes."""

from __future__ import annotations

import datasets
import pytest

from rankwise.core.errors import DataError
from rankwise.tasks.glue.definitions import find_definition
from rankwise.tasks.glue.examples import Example
from rankwise.tasks.glue.hub import read_hub

MRPC = {"sentence1": ["a", "c"], "sentence2": ["b", "d"], "label": [1, 0], "idx": [0, 1]}
MRPC_CLASSES = ("not_equivalent", "equivalent")


@pytest.fixture
def serve(monkeypatch):
    """Return a function that puts columns in the place of the Hub's, and notes what is asked."""

    def put(columns, classes=None):
        label = datasets.ClassLabel(names=classes) if classes else datasets.Value("float32")
        features = {
            name: label
            if name == "label"
            else datasets.Value("int32" if name == "idx" else "string")
            for name in columns
        }
        rows = datasets.Dataset.from_dict(columns, features=datasets.Features(features))
        asked = []

        def load_dataset(path, name, *, split):
            asked.append((path, name, split))
            return rows

        monkeypatch.setattr(datasets, "load_dataset", load_dataset)
        return asked

    return put


def read(name, split="train"):
    return read_hub(find_definition(name), split)


def test_rows_are_read_in_order_with_their_source(serve):
    asked = serve(MRPC, MRPC_CLASSES)
    assert read("mrpc") == (
        [Example(("a", "b"), 1), Example(("c", "d"), 0)],
        "Hub nyu-mll/glue, mrpc, train",
    )
    assert asked == [("nyu-mll/glue", "mrpc", "train")]


def test_the_two_validation_sets_of_mnli_are_two_tasks(serve):
    columns = {"premise": ["a"], "hypothesis": ["b"], "label": [2]}
    asked = serve(columns, ("entailment", "neutral", "contradiction"))
    assert read("mnli", "validation").examples == [Example(("a", "b"), 2)]
    read("mnli-mm", "validation")
    assert [split for _, _, split in asked] == ["validation_matched", "validation_mismatched"]


def test_scores_are_numbers(serve):
    serve({"sentence1": ["a"], "sentence2": ["b"], "label": [2.5]})
    assert read("stsb").examples == [Example(("a", "b"), 2.5)]


def test_a_split_without_labels_is_refused(serve):
    serve(MRPC | {"label": [-1, -1]}, MRPC_CLASSES)
    with pytest.raises(DataError, match=r"mrpc, test is not labelled .* protocol 'revisited'"):
        read("mrpc", "test")
    serve({"sentence1": ["a"], "sentence2": ["b"], "label": [-1.0]})
    with pytest.raises(DataError, match="stsb, test is not labelled"):
        read("stsb", "test")


def test_training_rows_without_text_are_left_out_and_counted(serve):
    serve(MRPC | {"sentence2": ["", "d"]}, MRPC_CLASSES)
    assert read("mrpc") == (
        [Example(("c", "d"), 0)],
        "Hub nyu-mll/glue, mrpc, train (1 rows without text left out)",
    )


def test_rows_without_text_that_would_be_scored_are_refused(serve):
    serve(MRPC | {"sentence2": ["b", " "]}, MRPC_CLASSES)
    with pytest.raises(DataError, match="validation: row 1 has no text in sentence1 or sentence2"):
        read("mrpc", "validation")


@pytest.mark.parametrize(
    ("columns", "classes", "message"),
    [
        ({"text": ["a"], "label": [1]}, MRPC_CLASSES, "columns sentence1, .* got text, label"),
        (MRPC, ("equivalent", "not_equivalent"), "classes not_equivalent, equivalent, got equiv"),
        (MRPC | {"label": [1, 7]}, None, "row 1 must be from 0 to 1, got 7"),
        (MRPC | {"sentence1": ["", " "]}, MRPC_CLASSES, "train holds no rows"),
    ],
)
def test_another_data_set_than_expected_is_refused(serve, columns, classes, message):
    serve(columns, classes)
    with pytest.raises(DataError, match=message):
        read("mrpc")


def test_a_score_out_of_range_is_refused(serve):
    serve({"sentence1": ["a"], "sentence2": ["b"], "label": [6.0]})
    with pytest.raises(DataError, match="score of row 0 must be from 0 to 5, got 6"):
        read("stsb")


@pytest.mark.parametrize("kind", [ConnectionError, datasets.exceptions.DatasetGenerationError])
def test_a_hub_out_of_reach_is_told_with_the_way_out(monkeypatch, kind):
    def load_dataset(*_, **__):
        raise kind("no network")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(DataError, match=r"cannot be fetched .*no network.* RANKWISE_DATA"):
        read("rte")
