"""Images in a folder a class, in two folders of splits, or in a column."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
from datasets import Dataset
from PIL import Image

from rankwise.core.errors import DataError
from rankwise.tasks.own.division import Cut
from rankwise.tasks.own.image_classification import ImageClassification, _read
from rankwise.tasks.own.source import Source, read_source
from tests.models.saved import make_vit


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    return make_vit(tmp_path_factory.mktemp("vit") / "model")


def write_images(folder, *, count=10, start=0):
    for number, name in enumerate(("dark", "light")):
        (folder / name).mkdir(parents=True)
        for n in range(start, start + count):
            shade = 100 * number + n
            Image.new("L", (12, 12), shade).save(folder / name / f"{n}.png")
    return str(folder)


def task_of(data, model, **cut):
    return ImageClassification(Source(data), Cut(**cut), model)


def test_a_folder_a_class_is_cut_by_the_seed(tmp_path, vit):
    task = task_of(write_images(tmp_path / "shades"), vit)
    splits = task.splits()
    assert splits.facts["columns"]["classes"] == ["dark", "light"]
    assert [len(splits.train), len(splits.validation), len(splits.test)] == [16, 2, 2]
    batch = splits.train.take(slice(0, 16))
    assert batch["pixel_values"].shape == (16, 3, 16, 16)
    light = batch["pixel_values"].mean(dim=(1, 2, 3)) > -0.5
    assert light.long().tolist() == batch["labels"].tolist()


def test_folders_of_splits_are_taken_as_they_are(tmp_path, vit):
    write_images(tmp_path / "shades" / "train")
    write_images(tmp_path / "shades" / "test", start=50, count=3)
    splits = task_of(str(tmp_path / "shades"), vit).splits()
    assert (len(splits.test), splits.facts["test"]["cut"]) == (6, False)


def test_the_head_has_the_classes_of_the_folder(tmp_path, vit):
    folder = tmp_path / "shades"
    write_images(folder)
    (folder / "grey").mkdir()
    for n in range(3):
        Image.new("L", (12, 12), 70 + n).save(folder / "grey" / f"{n}.png")
    assert task_of(str(folder), vit).base_model(tmp_path).classifier.out_features == 3


def test_a_broken_image_is_named(tmp_path, vit):
    folder = write_images(tmp_path / "shades")
    (tmp_path / "shades" / "dark" / "3.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"3\.png cannot be read"):
        task_of(folder, vit).splits()


def test_images_that_are_alike_stay_on_one_side(tmp_path, vit):
    folder = write_images(tmp_path / "shades")
    for n in range(100, 105):
        Image.new("L", (12, 12), 3).save(tmp_path / "shades" / "dark" / f"{n}.png")
    splits = task_of(folder, vit).splits()
    assert splits.facts["train"]["repeated"] == 5
    assert splits.facts["test"]["duplicates_of_train"] == 0


# --- images that rows name by their paths -----------------------------------------------------


def write_table(file, images):
    file.parent.mkdir(parents=True, exist_ok=True)
    rows = {"image": list(map(str, images)), "label": [f"{n % 2}" for n in range(len(images))]}
    Dataset.from_dict(rows).to_parquet(file)
    return str(file)


def shades(folder):
    write_images(folder)
    return [folder / name / f"{n}.png" for n in range(10) for name in ("dark", "light")]


def test_rows_may_name_images_in_the_folder_of_their_file(tmp_path, vit):
    data = write_table(tmp_path / "data" / "train.parquet", shades(tmp_path / "data" / "images"))
    assert len(task_of(data, vit).splits().train) == 16


def test_a_linked_folder_of_data_is_one_folder(tmp_path, vit):
    write_table(tmp_path / "data" / "train.parquet", shades(tmp_path / "data" / "images"))
    (tmp_path / "link").symlink_to(tmp_path / "data")
    assert len(task_of(str(tmp_path / "link"), vit).splits().train) == 16


def test_what_is_too_long_for_a_name_is_told_by_its_row(tmp_path, vit):
    images = shades(tmp_path / "data" / "images")
    images[3] = "iVBORw0KGgo" * 100  # the image itself, as text
    data = write_table(tmp_path / "data" / "train.parquet", images)
    with pytest.raises(DataError, match=r"train, row 4: its image 'iVBOR.* cannot be looked for"):
        task_of(data, vit).splits()


@pytest.mark.parametrize("form", ["absolute", "upwards", "upwards beyond a link"])
def test_an_image_outside_of_that_folder_is_refused(tmp_path, vit, form):
    images = shades(tmp_path / "data" / "images")
    secret = tmp_path / "private" / "secret.png"
    secret.parent.mkdir()
    Image.new("L", (12, 12)).save(secret)
    (tmp_path / "elsewhere" / "inner").mkdir(parents=True)
    (tmp_path / "data" / "way").symlink_to(tmp_path / "elsewhere" / "inner")
    images[3] = {
        "absolute": secret,
        "upwards": tmp_path / "data" / ".." / "private" / "secret.png",
        "upwards beyond a link": "way/../../private/secret.png",
    }[form]
    data = write_table(tmp_path / "data" / "train.parquet", images)
    with pytest.raises(
        DataError,
        match=r"train, row 4: its image .* leads out of .*data: say where .*--task\.image_folder",
    ):
        task_of(data, vit).splits()


def test_what_is_opened_is_what_was_found_to_be_inside(tmp_path, vit):
    """Behind a link, ``..`` leads elsewhere than its letters say."""
    images = shades(tmp_path / "data" / "images")
    outside = tmp_path / "elsewhere" / "light"
    (outside.parent / "inner").mkdir(parents=True)
    outside.symlink_to(tmp_path / "nowhere")
    (tmp_path / "data" / "images" / "way").symlink_to(outside.parent / "inner")
    images[3] = "images/way/../light/3.png"
    data = write_table(tmp_path / "data" / "train.parquet", images)
    assert len(task_of(data, vit).splits().train) > 0


@pytest.mark.parametrize("form", ["a file", "a folder", "each image"])
def test_links_in_that_folder_are_followed(tmp_path, vit, form):
    store, folder = tmp_path / "store", tmp_path / "data"
    images = shades(store / "images")
    data = write_table(folder / "train.parquet", [each.relative_to(store) for each in images])
    if form == "a folder":
        (folder / "images").symlink_to(store / "images")
    else:
        linked = images if form == "each image" else images[3:4]
        shutil.copytree(store / "images", folder / "images")
        for image in linked:
            link = folder / image.relative_to(store)
            link.unlink()
            link.symlink_to(image)
    assert len(task_of(data, vit).splits().train) == 16


def test_images_are_named_from_the_folder_of_their_table_or_from_where_one_stands(
    tmp_path, vit, monkeypatch
):
    images = shades(tmp_path / "data" / "images")
    for above in (tmp_path / "data", tmp_path):
        data = write_table(
            tmp_path / "data" / "train.parquet", [each.relative_to(above) for each in images]
        )
        monkeypatch.chdir(tmp_path)
        assert len(task_of(data, vit).splits().train) == 16
        _read.cache_clear()
        read_source.cache_clear()


def test_images_beside_the_folder_of_their_table_need_a_word(tmp_path, vit):
    images = shades(tmp_path / "photos")
    names = [each.relative_to(tmp_path / "photos") for each in images]
    data = write_table(tmp_path / "tables" / "train.parquet", names)
    with pytest.raises(DataError, match=r"no file dark/0\.png in .*tables; --task\.image_folder"):
        task_of(data, vit).splits()
    task = replace(task_of(data, vit), image_folder=str(tmp_path / "photos"))
    assert len(task.splits().train) == 16


def test_a_folder_of_images_that_is_not_there_or_of_no_use_is_refused(tmp_path, vit):
    data = write_table(tmp_path / "data" / "train.parquet", shades(tmp_path / "data" / "images"))
    task = replace(task_of(data, vit), image_folder=str(tmp_path / "photos"))
    with pytest.raises(DataError, match=r"task\.image_folder: there is no folder .*photos"):
        task.splits()
    folder = str(tmp_path / "data" / "images")
    with pytest.raises(DataError, match=r"holds images and no table .*: leave it out"):
        replace(task_of(folder, vit), image_folder=folder).splits()
