"""Models go to the GPU of their process, where there is one, and to no other."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rankwise.core import accelerator
from rankwise.core.accelerator import have_room, local_device, on_accelerator


@pytest.fixture
def gpus(monkeypatch):
    """Pretend that there are GPUs, each with room for 1,000 bytes."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (1000, 2000))


@pytest.fixture
def meta(monkeypatch):
    """Let the device that has no memory stand for the GPU of this process."""
    monkeypatch.setattr(accelerator, "local_device", lambda: torch.device("meta"))


def test_without_a_gpu_all_is_on_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert local_device() == torch.device("cpu")
    assert on_accelerator(nn.Linear(2, 2)).weight.device.type == "cpu"
    assert not have_room(nn.Linear(2, 2))


@pytest.mark.parametrize(("rank", "expected"), [(None, "cuda:0"), ("3", "cuda:3")])
@pytest.mark.usefixtures("gpus")
def test_each_process_of_a_launcher_has_its_own(monkeypatch, rank, expected):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    if rank is not None:
        monkeypatch.setenv("LOCAL_RANK", rank)
    assert local_device() == torch.device(expected)


@pytest.mark.usefixtures("meta")
def test_a_model_in_main_memory_is_brought_there_and_others_stay():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    assert on_accelerator(model) is model
    assert {each.device.type for each in model.parameters()} == {"meta"}
    spread = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2, device="meta"))
    on_accelerator(spread)
    assert [each.weight.device.type for each in spread] == ["cpu", "meta"]


@pytest.mark.usefixtures("gpus")
def test_models_have_room_together_or_not_at_all():
    model = nn.Linear(10, 10, bias=False)  # 400 bytes
    assert have_room(model, model)
    assert not have_room(model, model, model)
