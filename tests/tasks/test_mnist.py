"""The task mnist: two halves of the digits, one split, a base that is made once."""

from __future__ import annotations

import datasets
import pytest
import torch
from PIL import Image

from rankwise.core.errors import DataError
from rankwise.tasks.mnist import DEVIATION, MEAN, MnistTask
from rankwise.tasks.mnist_images import read_mnist
from tests.tasks.idx_files import idx_bytes, write_mnist


@pytest.fixture
def root(tmp_path):
    return write_mnist(tmp_path / "data")


def test_a_twelfth_is_set_aside_before_the_classes_are_filtered(root):
    splits = MnistTask(root).splits()
    assert len(splits.train) + len(splits.validation) == 120
    assert 0 < len(splits.validation) < 20
    assert len(splits.test) == 30


def test_labels_are_the_digits_less_five_and_pixels_are_normalised(root):
    columns = MnistTask(root).splits().train.columns
    assert columns["labels"].unique().tolist() == [0, 1, 2, 3, 4]
    assert columns["features"].shape[1:] == (784,)
    brightest = columns["features"].max() * DEVIATION + MEAN
    assert brightest == pytest.approx(250 / 255, abs=1e-6)


def test_the_base_is_made_once(root, tmp_path, monkeypatch):
    task = MnistTask(root, pretrain_epochs=1)
    base = task.base_model(tmp_path / "base")
    monkeypatch.setattr(MnistTask, "_pretrain", lambda *_: pytest.fail("trained again"))
    again = task.base_model(tmp_path / "base")
    for ours, theirs in zip(base.parameters(), again.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_the_record_says_where_the_images_come_from(root):
    facts = MnistTask(root).splits().facts
    assert facts["test"] == {"rows": 30, "source": "vision/mnist/t10k-images-idx3-ubyte.gz"}


@pytest.fixture
def serve(monkeypatch):
    """Put the images of ``root`` in the place of the Hub's, changed by a function of a row."""

    def put(root, change=lambda image, label: (image, label)):
        def load_dataset(path, name, *, split):
            assert (path, name) == ("ylecun/mnist", None)
            pixels, digits, _ = read_mnist(root, split)
            rows = [
                change(Image.fromarray(image.numpy()), label)
                for image, label in zip(pixels, digits.tolist(), strict=True)
            ]
            images, labels = zip(*rows, strict=True)
            features = datasets.Features(image=datasets.Image(), label=datasets.Value("int64"))
            columns = {"image": list(images), "label": list(labels)}
            return datasets.Dataset.from_dict(columns, features=features)

        monkeypatch.setattr(datasets, "load_dataset", load_dataset)

    return put


def test_without_a_data_root_the_hub_gives_the_same_rows(root, serve, tmp_path):
    serve(root)
    ours, theirs = MnistTask(root, seed=3).splits(), MnistTask(None, seed=3).splits()
    for split in ("train", "validation", "test"):
        columns = getattr(theirs, split).columns
        for name, column in getattr(ours, split).columns.items():
            assert torch.equal(columns[name], column)
    assert theirs.facts["test"]["source"] == "Hub ylecun/mnist, test"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda image, label: (image, label + 10), "train: label 10 of row 0 is no digit"),
        (lambda image, label: (image, label - 1), "train: label -1 of row 0 is no digit"),
        (
            lambda image, label: (image.resize((32, 28)), label),
            "train, image 0 must be grey .* got L and 32 × 28",
        ),
        (lambda image, label: (image.convert("RGB"), label), "got RGB and 28 × 28"),
    ],
)
def test_another_data_set_than_mnist_is_refused(root, serve, change, message):
    serve(root, change)
    with pytest.raises(DataError, match=message):
        MnistTask(None, seed=4).splits()


@pytest.mark.parametrize("columns", [{"image": [1]}, {"image": [], "label": []}])
def test_other_columns_and_no_rows_are_refused(monkeypatch, columns):
    rows = datasets.Dataset.from_dict(columns)
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: rows)
    with pytest.raises(DataError, match=r"must have the columns image and label|holds no rows"):
        MnistTask(None, seed=5).splits()


def test_the_real_files_have_the_sizes_of_the_published_experiment(real_data):
    splits = MnistTask(real_data).splits()
    # 29,404 training and 4,861 test images show a digit from 5 to 9.
    assert len(splits.train) + len(splits.validation) == 29404
    assert len(splits.test) == 4861


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t10k-labels-idx1-ubyte", idx_bytes(59), r"t10k-labels.* one label for each of 60"),
        ("t10k-labels-idx1-ubyte", idx_bytes(60), r"label 10 of row 10 is no digit"),
        ("train-images-idx3-ubyte", idx_bytes(240, 8, 8), r"images of 28 × 28, got \(240, 8, 8\)"),
        ("train-images-idx3-ubyte", b"\x89PNG", r"train-images.* is no IDX file"),
    ],
)
def test_what_is_wrong_in_a_file_is_told_with_its_name(root, name, content, message):
    (root / "vision" / "mnist" / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        MnistTask(root).splits()
