"""DDP through the Trainer on two processes: init, twenty steps with a fold, save, load in one.

It folds where it is looked at the gradient over the batches of both.
"""

import pytest
import torch
from peft import PeftModel

from rankwise.methods.chain.callback import ChainCallback
from rankwise.methods.chain.fold_steps import FoldBelow
from rankwise.methods.inits.initialize import initialize
from rankwise.methods.inits.update import UpdateApproximation
from tests.models.chain_trainers import changes, make_trainer
from tests.models.chains import base_weights, build, outputs
from tests.two_processes import run_in_two


def train_one_of_two(rank, folder):
    model = build()
    batches = [{"x": torch.ones(2, 7) + rank, "labels": torch.tensor([rank, 3])}]
    initialize(model, UpdateApproximation(lr=0.1), batches)
    start = changes(model)
    below = FoldBelow(0.9999, look_every=12)
    callback = ChainCallback(model, below=below, sketch="gradient", batches=batches)
    trainer = make_trainer(
        model,
        folder,
        callbacks=[callback],
        max_steps=20,
        per_device_train_batch_size=3,
        ddp_backend="gloo",
        ddp_find_unused_parameters=False,
        save_strategy="steps",
        save_steps=13,
    )
    trainer.train()
    if rank == 0:
        model.save_pretrained(folder / "adapter")
    return {
        "start": start,
        "folds": callback.fold_steps,
        "looks": [each for each in trainer.state.log_history if "chain_captured_share" in each],
        "changes": changes(model),
        "bases": base_weights(model),
        "outputs": outputs(model),
    }


@pytest.mark.processes
@pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to")  # one layer of each layout
def test_two_processes_end_with_the_same_weights(tmp_path):
    first, second = run_in_two(train_one_of_two, tmp_path)
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    assert first["folds"] == [12]
    assert [each["step"] for each in first["looks"]] == [12]
    assert all(
        torch.equal(*pair) for pair in zip(first["bases"], base_weights(build()), strict=True)
    )
    assert all(change.any() for change in (*first["start"], *first["changes"]))
    assert (tmp_path / "checkpoint-13" / "rankwise_chain.safetensors").is_file()

    base = build().unload()
    loaded = PeftModel.from_pretrained(base, tmp_path / "adapter")
    torch.testing.assert_close(outputs(loaded), first["outputs"])
