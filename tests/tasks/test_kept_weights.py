"""A base model that is read again is the one that was made, or is named as damaged."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from rankwise.core.errors import ModelError
from rankwise.tasks.digits import DigitsTask
from rankwise.tasks.kept_weights import keep_weights, take_weights


def network(width=3):
    return nn.Sequential(nn.Linear(2, width), nn.Linear(width, 1))


def test_what_was_kept_is_taken(tmp_path):
    made, other = network(), network()
    keep_weights(made.state_dict(), tmp_path / "above" / "base.safetensors")
    take_weights(other, tmp_path / "above" / "base.safetensors")
    assert all(
        torch.equal(ours, theirs) for ours, theirs in zip(made.parameters(), other.parameters())
    )
    assert [file.name for file in (tmp_path / "above").iterdir()] == ["base.safetensors"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: file.write_bytes(file.read_bytes()[:-5]),
        lambda file: file.write_bytes(b""),
        lambda file: save_file({"0.weight": torch.zeros(3, 2)}, file),
        lambda file: keep_weights(network(width=4).state_dict(), file),
        lambda file: keep_weights(network().double().state_dict(), file),
    ],
    ids=["cut", "empty", "a part", "of another width", "in another precision"],
)
def test_a_damaged_base_is_named(tmp_path, damage):
    file = tmp_path / "base.safetensors"
    keep_weights(network().state_dict(), file)
    damage(file)
    with pytest.raises(ModelError, match=r"base\.safetensors is damaged \(.*\): remove it"):
        take_weights(network(), file)


def test_a_damaged_base_of_the_digits_is_named(tmp_path):
    task = DigitsTask(pretrain_epochs=1)
    task.base_model(tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ModelError, match="is damaged"):
        task.base_model(tmp_path)
