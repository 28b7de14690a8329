"""VTAB from the Hub, with a data set in its place that has its columns."""

from __future__ import annotations

import datasets
import numpy as np
import pytest
from PIL import Image

from rankwise.core.errors import DataError
from rankwise.tasks.vtab.definitions import find_definition
from rankwise.tasks.vtab.hub import read_hub
from rankwise.tasks.vtab.splits import read_vtab
from tests.tasks.vtab.vtab_folders import picture

DTD = find_definition("dtd")


def made_up(labels, *, image="webp", label="cls"):
    pictures = [Image.fromarray(picture(each, seed=row)) for row, each in enumerate(labels)]
    features = datasets.Features({image: datasets.Image(), label: datasets.Value("int64")})
    return datasets.Dataset.from_dict({image: pictures, label: labels}, features=features)


@pytest.fixture
def serve(monkeypatch):
    """Put rows in the place of the Hub's, and note what is asked."""

    def put(rows):
        asked = []
        monkeypatch.setattr(
            datasets,
            "load_dataset",
            lambda path, _, *, split: asked.append((path, split)) or rows,
        )
        return asked

    return put


@pytest.mark.parametrize(("image", "label"), [("webp", "cls"), ("jpg", "cls"), ("image", "label")])
def test_images_and_labels_are_read_whatever_their_columns_are_called(serve, image, label):
    asked = serve(made_up([3, 0, 46], image=image, label=label))
    part = read_hub(DTD, "train")
    assert part.labels.tolist() == [3, 0, 46]
    assert np.array_equal(np.asarray(part.images[1]), picture(0, seed=1))
    assert part.source == "Hub clip-benchmark/wds_vtab-dtd, train"
    assert asked == [("clip-benchmark/wds_vtab-dtd", "train")]


def test_the_hub_is_asked_where_no_data_root_is_named(serve):
    asked = serve(made_up([0, 1, 2, 3, 0, 1, 2, 3, 0, 1]))
    parts = read_vtab(DTD, root=None, protocol="tuning", split_seed=0)
    assert [len(part.images) for part in parts] == [8, 2, 10]
    assert {split for _, split in asked} == {"train", "test"}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (made_up([0, 47]), r"train, image 1: .* 0 to 46 \(the 47 classes of dtd\), got 47"),
        (made_up([0], label="y"), "one column of images and cls or label, got webp, y"),
        (datasets.Dataset.from_dict({"cls": [0]}), "one column of images .* got cls"),
        (made_up([0]).select([]), "train holds no images"),
    ],
)
def test_another_data_set_than_expected_is_refused(serve, rows, message):
    serve(rows)
    with pytest.raises(DataError, match=message):
        read_hub(DTD, "train")


def test_a_broken_image_is_named(serve):
    rows = made_up([0, 1]).cast_column("webp", datasets.Image(decode=False))
    cut = rows.map(lambda row: {"webp": {"bytes": row["webp"]["bytes"][:60], "path": None}})
    serve(cut.cast_column("webp", datasets.Image()))
    with pytest.raises(DataError, match=r"wds_vtab-dtd, train, image 1 cannot be read"):
        _ = read_hub(DTD, "train").images[1]


@pytest.mark.parametrize("kind", [ConnectionError, datasets.exceptions.DatasetGenerationError])
def test_a_hub_out_of_reach_is_told_with_the_way_out(monkeypatch, kind):
    def load_dataset(*_, **__):
        raise kind("no network")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(DataError, match=r"cannot be fetched .*no network.* RANKWISE_DATA"):
        read_hub(DTD, "test")
