"""A chain on two processes: both fold alike, and the reducer misses no parameter."""

import os
import socket

import pytest
import torch
from torch import multiprocessing

from rankwise.methods.callback import ChainCallback
from tests.methods.chain_models import base_weights, build
from tests.methods.test_callback import changes, make_trainer


def train_one_of_two(rank: int, port: int, folder: str) -> None:
    """Train as process ``rank`` and leave its final weights in ``folder``."""
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    torch.set_num_threads(1)
    model = build()
    batches = [{"x": torch.ones(2, 7) + rank, "labels": torch.tensor([rank, 3])}]
    callback = ChainCallback(model, every=2, sketch="gradient", batches=batches)
    trainer = make_trainer(
        model,
        folder,
        callbacks=[callback],
        max_steps=5,
        per_device_train_batch_size=3,
        ddp_backend="gloo",
        ddp_find_unused_parameters=False,
        save_strategy="steps",
        save_steps=3,
    )
    trainer.train()
    torch.save((changes(model), base_weights(model)), f"{folder}/final-{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_end_with_the_same_weights(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    multiprocessing.spawn(train_one_of_two, (port, str(tmp_path)), nprocs=2)
    (first, base), (second, other) = (torch.load(tmp_path / f"final-{rank}.pt") for rank in (0, 1))
    assert all(torch.equal(a, b) for a, b in zip(first + base, second + other, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(base, base_weights(build()), strict=True))
    assert all(change.any() for change in first)
    assert (tmp_path / "checkpoint-3" / "rankwise_chain.safetensors").is_file()
