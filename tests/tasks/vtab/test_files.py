"""VTAB from local folders: what is read, and what is refused by name."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from rankwise.core.errors import DataError
from rankwise.tasks.vtab.definitions import find_definition
from rankwise.tasks.vtab.files import read_folder
from tests.tasks.vtab.vtab_folders import picture, write_arrays, write_files

SVHN = find_definition("svhn")


@pytest.fixture
def root(tmp_path):
    return write_files(tmp_path, "svhn", train=6)


@pytest.fixture
def folder(root):
    return root / "vision" / "svhn" / "train"


def read(root):
    """Read all of the split, images included."""
    part = read_folder(SVHN, "train", root)
    return part, [np.asarray(part.images[row]) for row in range(len(part.images))]


def test_files_are_read_in_the_order_of_the_labels(root, folder):
    rows = (folder / "labels.csv").read_text().splitlines()
    (folder / "labels.csv").write_text("\n".join([rows[0], *reversed(rows[1:])]))
    part, images = read(root)
    assert part.labels.tolist() == [1, 0, 3, 2, 1, 0]
    assert np.array_equal(images[0], picture(1, seed=5))
    assert part.source == "vision/svhn/train"


@pytest.mark.parametrize("grey", [True, False])
def test_arrays_hold_grey_or_coloured_images(tmp_path, grey):
    part, images = read(write_arrays(tmp_path, "svhn", grey=grey, train=5))
    assert part.labels.tolist() == [0, 1, 2, 3, 0]
    expected = picture(2, seed=2)
    assert images[2].shape == (16, 16, 3)
    assert np.array_equal(images[2][..., 0], expected[..., 0])
    assert np.array_equal(images[2], expected) is not grey


def test_a_truncated_image_is_refused_by_name(root, folder):
    content = (folder / "002.png").read_bytes()
    (folder / "002.png").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"train.002\.png cannot be read .*fetch it again"):
        read(root)


def test_a_file_that_is_no_image_is_refused_by_name(root, folder):
    (folder / "001.png").write_text("not an image")
    with pytest.raises(DataError, match=r"001\.png cannot be read"):
        read(root)


def test_a_format_that_would_start_another_program_is_refused(root, folder):
    Image.new("RGB", (16, 16)).save(folder / "001.png", format="EPS")
    with pytest.raises(DataError, match=r"001\.png cannot be read"):
        read(root)


@pytest.mark.parametrize("mode", ["P", "RGBA", "CMYK", "I;16", "1"])
def test_a_mode_that_would_need_a_choice_is_refused(root, folder, mode):
    image = Image.new("I;16", (16, 16)) if mode == "I;16" else Image.new("RGB", (16, 16))
    image = image if image.mode == mode else image.convert(mode)
    image.save(folder / "003.png", format="TIFF")
    with pytest.raises(DataError, match=rf"003\.png must have mode L or RGB, got {mode}: convert"):
        read(root)


@pytest.mark.parametrize("size", [(7, 16), (16, 8193), (12000, 9000)])
def test_a_size_out_of_bounds_is_refused(root, folder, size):
    Image.new("L", size).save(folder / "003.png")
    with pytest.raises(DataError, match=rf"003.png must have sides of 8 to 8192 .* {size[0]} × "):
        read(root)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("file,label\n000.png,0\n", r"labels.csv has no row for 001.png \(5 of 6 images\)"),
        ("file,label\n000.png,10\n", r"labels.csv, line 2: .* from 0 to 9 .* svhn\), got '10'"),
        ("file,label\n000.png,cat\n", r"line 2: the label must be a whole number .* got 'cat'"),
        ("file,label\n000.png,0\n000.png,1\n", r"line 3: 000.png has a row already"),
        ("file,label\n000.png\n", r"line 2: expected a file and a label, got \['000.png'\]"),
        ("000.png,0\n", r"must begin with file,label, got \['000.png', '0'\]"),
        ("", r"must begin with file,label, got \[\]"),
        ("file,label\n\xff", "cannot be read .*write it again"),
    ],
)
def test_labels_that_do_not_fit_are_refused_by_line(root, folder, labels, message):
    (folder / "labels.csv").write_bytes(labels.encode("latin-1"))
    with pytest.raises(DataError, match=message):
        read(root)


def test_a_row_without_an_image_is_refused(root, folder):
    (folder / "004.png").unlink()
    with pytest.raises(DataError, match=r"names 004.png, which is no image .* \(1 of 6 rows\)"):
        read(root)


def test_a_missing_list_a_missing_folder_and_an_empty_one_are_refused(root, folder):
    (folder / "labels.csv").unlink()
    with pytest.raises(DataError, match=r"no .*labels.csv: write one with the columns file,label"):
        read(root)
    with pytest.raises(DataError, match=r"no folder .*test: .* read from the Hub"):
        read_folder(SVHN, "test", root)
    empty = root / "vision" / "svhn" / "test"
    empty.mkdir()
    (empty / "labels.csv").write_text("file,label\n")
    with pytest.raises(DataError, match="test holds no images"):
        read_folder(SVHN, "test", root)


IMAGES, LABELS = np.zeros((3, 16, 16), np.uint8), np.zeros(3, np.int64)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": IMAGES}, "must hold images and labels, got images"),
        ({"images": IMAGES / 2, "labels": LABELS}, r"uint8.* got float64 of shape \(3, 16, 16\)"),
        ({"images": IMAGES[..., None], "labels": LABELS}, r"got uint8 of shape \(3, 16, 16, 1\)"),
        ({"images": IMAGES, "labels": LABELS[:2]}, r"each of 3 images, got int64 of shape \(2,\)"),
        ({"images": IMAGES, "labels": LABELS + 0.5}, "one whole number .* got float64"),
        (
            {"images": IMAGES, "labels": LABELS + np.array([0, 0, 10])},
            "image 2: .* 0 to 9 .* got 10",
        ),
        ({"images": IMAGES[:, :4], "labels": LABELS}, "arrays.npz, image 0 must have sides of 8"),
        ({"images": IMAGES.astype(object), "labels": LABELS}, "cannot be read .*write it again"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path, arrays, message):
    folder = tmp_path / "vision" / "svhn" / "train"
    folder.mkdir(parents=True)
    np.savez(folder / "arrays.npz", **arrays)
    with pytest.raises(DataError, match=message):
        read(tmp_path)


@pytest.mark.parametrize("cut", [slice(100), slice(0), slice(-200)])
def test_a_broken_file_of_arrays_is_refused(tmp_path, cut):
    root = write_arrays(tmp_path, "svhn", train=4)
    file = root / "vision" / "svhn" / "train" / "arrays.npz"
    file.write_bytes(file.read_bytes()[cut])
    with pytest.raises(DataError, match=r"arrays.npz cannot be read .*write it again"):
        read(root)


def test_an_array_alone_is_refused(tmp_path):
    folder = tmp_path / "vision" / "svhn" / "train"
    folder.mkdir(parents=True)
    with (folder / "arrays.npz").open("wb") as file:
        np.save(file, IMAGES)
    with pytest.raises(DataError, match=r"arrays.npz cannot be read .*write it again"):
        read(tmp_path)
