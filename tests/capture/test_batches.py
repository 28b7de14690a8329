import pytest
import torch

from rankwise.capture.batches import collect_batches, count_samples, to_device
from rankwise.core.errors import DataError


def test_a_generator_is_read_once_and_kept():
    assert collect_batches({"x": n} for n in range(3)) == [{"x": 0}, {"x": 1}, {"x": 2}]


def test_no_batches_are_refused():
    with pytest.raises(DataError, match="batches is empty: pass at least one batch"):
        collect_batches([])


@pytest.mark.parametrize("single", [{"x": torch.ones(2)}, torch.ones(2), "train"])
def test_one_batch_instead_of_a_series_is_refused(single):
    with pytest.raises(DataError, match=f"got one {type(single).__name__}: wrap it in a list"):
        collect_batches(single)


def test_tensors_inside_mappings_and_sequences_move_and_the_rest_stays():
    batch = {"x": torch.ones(2), "pair": (torch.ones(1), "name"), "list": [torch.ones(3)]}
    moved = to_device(batch, torch.device("meta"))
    assert moved["x"].is_meta
    assert moved["pair"][0].is_meta
    assert moved["pair"][1] == "name"
    assert moved["list"][0].is_meta
    assert not batch["x"].is_meta


@pytest.mark.parametrize(
    "batch",
    [
        torch.ones(5, 2),
        {"scale": torch.tensor(1.0), "x": torch.ones(5)},
        (torch.ones(5), torch.ones(1)),
        {"name": "a", "inner": [torch.ones(5, 3)]},
    ],
)
def test_samples_are_the_rows_of_the_first_tensor_that_has_rows(batch):
    assert count_samples(batch) == 5


def test_a_batch_without_a_tensor_has_no_samples_to_count():
    with pytest.raises(DataError, match="got dict without one"):
        count_samples({"text": "a"})
