"""What is written tensor by tensor is what safetensors writes at once, and takes no second copy."""

import tracemalloc

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from safetensors.torch import save_file as save_at_once

from rankwise.methods.chain.safetensors_file import save_file

METADATA = {"rankwise_chain": '{"name": "Ünïcode \\" and quotes"}'}


def tensors():
    generator = torch.Generator().manual_seed(0)
    dtypes = (torch.float16, torch.float32, torch.bfloat16, torch.float64)
    shapes = ((3, 5), (1, 1), (7,), (2, 3, 4))
    drawn = [torch.randn(shape, generator=generator) for shape in shapes]
    return {f"layer.{i}.é": each.to(dtypes[i]) for i, each in enumerate(drawn)} | {
        "b": drawn[0],
        "a": drawn[0] + 1,
    }


def test_the_file_is_byte_for_byte_that_of_safetensors(tmp_path):
    save_file(tensors(), tmp_path / "own", METADATA)
    save_at_once(tensors(), tmp_path / "theirs", METADATA)
    assert (tmp_path / "own").read_bytes() == (tmp_path / "theirs").read_bytes()


def test_it_is_read_back(tmp_path):
    save_file(tensors(), tmp_path / "file", METADATA)
    loaded = load_file(tmp_path / "file")
    assert loaded.keys() == tensors().keys()
    assert all(torch.equal(loaded[key], value) for key, value in tensors().items())
    with safe_open(tmp_path / "file", framework="pt") as file:
        assert file.metadata() == METADATA


def test_tensors_that_are_views_or_train_are_written_as_they_are(tmp_path):
    parameter = torch.nn.Parameter(torch.arange(6.0).view(2, 3))
    save_file({"turned": parameter.T, "whole": parameter}, tmp_path / "file", {})
    loaded = load_file(tmp_path / "file")
    assert torch.equal(loaded["turned"], parameter.T)
    assert torch.equal(loaded["whole"], parameter)


def test_nothing_is_held_twice(tmp_path):
    large = {str(number): torch.zeros(1000, 1000) for number in range(8)}
    tracemalloc.start()
    save_file(large, tmp_path / "file", {})
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000 < (tmp_path / "file").stat().st_size


def test_what_is_no_floating_point_number_is_refused(tmp_path):
    with pytest.raises(ValueError, match="int64"):
        save_file({"x": torch.ones(1, dtype=torch.int64)}, tmp_path / "file", {})
