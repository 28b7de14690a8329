"""The protocol of VTAB-1K: 800 and 200 for choices, 1,000 in the end."""

from __future__ import annotations

import pytest
import torch

from rankwise.core.errors import DataError
from rankwise.tasks.vtab.definitions import find_definition
from rankwise.tasks.vtab.splits import read_vtab
from tests.tasks.vtab.vtab_folders import write_arrays, write_files

PETS = find_definition("pets")


def read(root, protocol="tuning", seed=0):
    return read_vtab(PETS, root=root, protocol=protocol, split_seed=seed)


def pictures(part):
    return {part.images[row].tobytes() for row in range(len(part.images))}


@pytest.fixture
def large(tmp_path):
    return write_arrays(tmp_path, "pets", train=1200, test=7)


def test_of_more_images_a_thousand_are_drawn_and_cut_four_to_one(large):
    train, validation, test = read(large)
    assert [len(part.images) for part in (train, validation, test)] == [800, 200, 7]
    assert not pictures(train) & pictures(validation)
    assert train.source == "800 of the 1200 images of vision/pets/train"


def test_the_final_run_trains_on_both_parts(large):
    tuning, final = read(large), read(large, "final")
    assert pictures(final.train) == pictures(tuning.train) | pictures(tuning.validation)
    assert pictures(final.validation) == pictures(tuning.validation)


def test_the_seed_decides_the_cut(large):
    assert torch.equal(read(large).train.labels, read(large).train.labels)
    assert pictures(read(large).train) != pictures(read(large, seed=1).train)


def test_given_parts_are_taken_as_they_are(tmp_path):
    root = write_files(tmp_path, "pets", train=8, validation=4, test=3)
    train, validation, _ = read(root)
    assert train.labels.tolist() == [0, 1, 2, 3, 0, 1, 2, 3]
    assert validation.source == "vision/pets/validation"
    final = read(root, "final").train
    assert final.labels.tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3]
    assert final.images[9].tobytes() == validation.images[1].tobytes()
    assert final.source == "vision/pets/train and vision/pets/validation"


def test_too_few_images_to_cut_are_refused(tmp_path):
    root = write_arrays(tmp_path, "pets", train=4, test=1)
    with pytest.raises(DataError, match=r"pets/train must have at least 5 images .* got 4"):
        read(root)
