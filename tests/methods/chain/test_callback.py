"""A chain under Trainer: what it leaves, and what is refused."""

from __future__ import annotations

import functools
import warnings

import pytest
import torch
from peft import LoraConfig, PeftModel
from transformers import TrainerCallback
from transformers.trainer_utils import set_seed

from rankwise.core.errors import AdapterError, ChainError, ModelError, SettingsError
from rankwise.methods.chain.callback import ChainCallback
from rankwise.methods.chain.fold_steps import FoldBelow
from tests.models.chain_trainers import Endless, Rows, StopAt, Watch, changes, make_trainer
from tests.models.chains import (
    base_weights,
    build,
    chained,
    layers,
    optimizer_of,
    outputs,
    same,
    trained,
)

pytestmark = pytest.mark.runs

# --- what it leaves ----------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["left", "right", "both"])
def test_after_training_the_base_is_restored_and_the_adapter_is_one_lora(tmp_path, side):
    model = build()
    before = base_weights(model)
    callback = ChainCallback(model, every=3, side=side)
    watch = Watch(callback)
    trainer = make_trainer(model, tmp_path / "run", callbacks=[callback, watch])
    trainer.train()
    assert same(base_weights(model), before)
    torch.testing.assert_close(changes(model), watch.learned[-1])
    trainer.save_model(tmp_path / "out")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="fan_in_fan_out")
        loaded = PeftModel.from_pretrained(build().unload(), tmp_path / "out")
    assert loaded.peft_config["default"].r == 6
    assert torch.equal(outputs(loaded), outputs(model))


def test_the_final_lora_can_be_compressed_with_its_error_reported(tmp_path):
    model = build()
    callback = ChainCallback(model, every=3, final_rank=2)
    make_trainer(model, tmp_path, callbacks=[callback]).train()
    assert model.peft_config["default"].r == callback.report.rank == 2
    assert all(0 < error < 1 for error in callback.report.errors.values())


def test_an_exception_in_training_restores_the_base_and_keeps_what_was_learned(tmp_path):
    model = build()
    before, start = base_weights(model), outputs(model)
    callback = ChainCallback(model, every=2)
    trainer = make_trainer(model, tmp_path, callbacks=[callback], data=Rows(broken_at=22))
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    assert callback.report.blocks == 3
    assert same(base_weights(model), before)
    assert not torch.allclose(outputs(model), start)
    assert type(model.peft_config["default"]) is LoraConfig


def test_a_callback_that_joins_later_is_a_context_manager(tmp_path):
    model = build()
    before = base_weights(model)
    trainer = make_trainer(model, tmp_path, callbacks=[], data=Rows(broken_at=22))
    callback = ChainCallback(model, every=2)
    trainer.add_callback(callback)
    with pytest.raises(KeyboardInterrupt), callback:
        trainer.train()
    assert callback.report.blocks == 3
    assert same(base_weights(model), before)


def test_checkpoints_amid_a_chain_are_not_taken_for_loras(tmp_path):
    model = build()
    callback = ChainCallback(model, every=2)
    make_trainer(model, tmp_path, callbacks=[callback], save_strategy="steps", save_steps=3).train()
    with pytest.raises(AdapterError, match="unfinished chain"):
        PeftModel.from_pretrained(build().unload(), tmp_path / "checkpoint-3")


def test_the_best_checkpoint_is_loaded_whatever_block_it_is_of(tmp_path):
    model = build()
    before = base_weights(model)
    callback = ChainCallback(model, every=2)
    watch = Watch(callback)
    losses = iter([3.0, 1.0, 2.0, 4.0])
    trainer = make_trainer(
        model,
        tmp_path,
        callbacks=[callback, watch],
        max_steps=8,
        save_strategy="steps",
        save_steps=2,
        eval_strategy="steps",
        eval_steps=2,
        load_best_model_at_end=True,
        metric_for_best_model="score",
        greater_is_better=False,
    )
    trainer.compute_metrics = lambda _: {"score": next(losses)}
    trainer.train()
    assert trainer.state.best_model_checkpoint.endswith("checkpoint-4")
    assert callback.report.rank == 4
    torch.testing.assert_close(changes(model), watch.learned[3])
    assert same(base_weights(model), before)


def named_run(folder, *, resume=None, callbacks=(), **options):
    """Train an adapter that is called ``x``, beside a head that trains too."""
    set_seed(5)
    config = LoraConfig(r=2, target_modules=["first"], modules_to_save=["second"])
    model = PeftModel(build().unload(), config, "x")
    callback = ChainCallback(model, every=2, adapter_name="x", side="right")
    trainer = make_trainer(model, folder, callbacks=[callback, *callbacks], **options)
    losses = iter([3.0, 1.0, 2.0, 4.0])
    trainer.compute_metrics = lambda _: {"score": next(losses)}
    trainer.train(resume_from_checkpoint=resume)
    return model, callback


NAMED = {"max_steps": 8, "save_strategy": "steps", "save_steps": 2}


def test_an_adapter_of_another_name_resumes(tmp_path):
    whole, _ = named_run(tmp_path / "whole", **NAMED)
    named_run(tmp_path / "run", callbacks=[StopAt(5)], **NAMED)
    resumed, callback = named_run(tmp_path / "run", resume=True, **NAMED)
    assert callback.report.blocks == 4
    expected = whole.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in resumed.state_dict().items())


def test_the_best_checkpoint_of_an_adapter_of_another_name_is_loaded(tmp_path):
    stopped, _ = named_run(tmp_path / "stopped", callbacks=[StopAt(4)], **NAMED)
    best, callback = named_run(
        tmp_path / "run",
        eval_strategy="steps",
        eval_steps=2,
        load_best_model_at_end=True,
        metric_for_best_model="score",
        greater_is_better=False,
        **NAMED,
    )
    assert callback.report.rank == 4
    torch.testing.assert_close(best.state_dict(), stopped.state_dict(), rtol=0, atol=0)


# --- the optimizer -----------------------------------------------------------------------------


class Rates(TrainerCallback):
    def __init__(self) -> None:
        self.taken, self.scheduled = [], []

    def on_pre_optimizer_step(self, args, state, control, optimizer=None, **kwargs):
        self.taken.append(round(optimizer.param_groups[0]["lr"], 6))

    def on_step_end(self, args, state, control, optimizer=None, **kwargs):
        self.scheduled.append(round(optimizer.param_groups[0]["lr"], 6))


def test_the_learning_rate_warms_up_again_after_each_fold(tmp_path):
    model = build()
    callback = ChainCallback(model, every=4, warmup_steps=2)
    optimizer = torch.optim.SGD(trained(model), lr=0.3)
    # A scheduler that goes on from the rate that it finds: what the warm-up leaves would add up.
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 1.0)
    rates = Rates()
    make_trainer(
        model, tmp_path, callbacks=[callback, rates], optimizers=(optimizer, scheduler)
    ).train()
    assert rates.taken == [0.3, 0.3, 0.3, 0.3, 0.1, 0.2, 0.3, 0.3, 0.1]
    assert rates.scheduled == [0.3] * 9


@pytest.mark.parametrize(("reset", "steps"), [(True, 1.0), (False, 9.0)])
def test_the_optimizer_forgets_a_block_that_is_over_unless_told_otherwise(tmp_path, reset, steps):
    model = build()
    parameters = trained_by_left(model)
    callback = ChainCallback(model, every=4, reset_optimizer=reset)
    trainer = make_trainer(model, tmp_path, callbacks=[callback])
    trainer.train()
    assert {float(trainer.optimizer.state[each]["step"]) for each in parameters} == {steps}


def trained_by_left(model):
    return [layer.lora_A["default"].weight for layer in layers(model).values()]


# --- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {},
            r"give one of every \(steps\), every_epochs, fractions, below and single_block=True, "
            "got None, None, None, None and False",
        ),
        ({"every": 1, "every_epochs": 1}, r"give one of every .*, got 1, 1, None, None and False"),
        ({"every": 1, "single_block": True}, r"got 1, None, None, None and True"),
        ({"every": 1, "below": FoldBelow(0.1, look_every=1)}, r"None, FoldBelow\(.*\) and False"),
        ({"below": 0.1, "batches": [{}]}, "below must be a rankwise.FoldBelow, got 0.1"),
        ({"below": FoldBelow(0.1, look_every=1)}, "the gradient of batches, got it without them"),
        ({"every": 0}, "every must be an integer of at least 1, got 0"),
        ({"every_epochs": 1.5}, "every_epochs must be an integer of at least 1, got 1.5"),
        ({"every": 1, "warmup_steps": -1}, "warmup_steps must be an integer of at least 0, got -1"),
        ({"every": 1, "final_rank": 0}, "final_rank must be an integer of at least 1, got 0"),
        ({"every": 1, "batches": [{}]}, "got sketch='gaussian' with them"),
        ({"every": 1, "loss": functools.partial}, "loss goes with batches, got it alone"),
        ({"every": 1, "sketch": "gradient"}, "got sketch='gradient' without them"),
    ],
)
def test_a_wrong_setting_is_refused_and_changes_nothing(options, message):
    model = build()
    with pytest.raises(SettingsError, match=message):
        ChainCallback(model, **options)
    assert len(trained(model)) == 4
    assert type(model.peft_config["default"]) is LoraConfig


def test_an_optimizer_built_before_the_callback_is_refused_and_the_base_restored(tmp_path):
    model = build()
    optimizer = optimizer_of(model)
    callback = ChainCallback(model, every=2)
    trainer = make_trainer(model, tmp_path, callbacks=[callback], optimizers=(optimizer, None))
    with pytest.raises(ChainError, match="holds frozen sketches of the chain: build it after"):
        trainer.train()
    assert not callback.chain.is_open


def test_another_model_is_refused(tmp_path):
    callback = ChainCallback(build(), every=2)
    with pytest.raises(ChainError, match="trains another model than the ChainCallback was made"):
        make_trainer(build(), tmp_path, callbacks=[callback]).train()


def test_a_second_training_is_refused(tmp_path):
    model = build()
    trainer = make_trainer(model, tmp_path, callbacks=[ChainCallback(model, every=1)], max_steps=2)
    trainer.train()
    with pytest.raises(ChainError, match=r"chain of adapter 'default' is over .*make a new one"):
        trainer.train()


def test_batch_sizes_that_are_searched_for_are_refused(tmp_path):
    model = build()
    callback = ChainCallback(model, every=2)
    trainer = make_trainer(model, tmp_path, callbacks=[callback], auto_find_batch_size=True)
    with pytest.raises(ChainError, match="auto_find_batch_size=True starts anew amid a chain"):
        trainer.train()


def test_epochs_without_a_length_are_refused(tmp_path):
    model = build()
    callback = ChainCallback(model, every_epochs=1)
    trainer = make_trainer(model, tmp_path, callbacks=[callback], data=Endless())
    with pytest.raises(ChainError, match="every_epochs needs a dataset with a length"):
        trainer.train()


def test_a_model_that_cannot_carry_a_chain_is_refused():
    model = build()
    chained(model)
    with pytest.raises(ModelError, match="got ChainConfig"):
        ChainCallback(model, every=1)
