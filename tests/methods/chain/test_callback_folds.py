"""When a chain folds under Trainer."""

from __future__ import annotations

import itertools

import pytest
import torch
from transformers import TrainerCallback
from transformers.trainer_utils import set_seed

from rankwise.core.errors import SettingsError
from rankwise.methods.chain.callback import ChainCallback
from rankwise.methods.chain.chain import Chain
from rankwise.methods.chain.fold_steps import FoldBelow
from tests.models.chain_trainers import ROWS, Rows, Watch, changes, make_trainer
from tests.models.chains import build, trained

pytestmark = pytest.mark.runs


def folds_of(folder, *, chain, **options):
    model = build()
    callback = ChainCallback(model, **chain)
    watch = Watch(callback)
    make_trainer(model, folder, callbacks=[callback, watch], **options).train()
    return watch.folds, callback.report


def test_it_folds_after_every_so_many_steps_but_not_after_the_last(tmp_path):
    folds, report = folds_of(tmp_path, chain={"every": 3})
    assert folds == [0, 0, 1, 1, 1, 2, 2, 2, 2]
    assert (report.blocks, report.rank) == (3, 6)


def test_it_folds_at_fractions_of_the_run_and_warms_up_after_each(tmp_path):
    model, rates = build(), FirstRates()
    callback = ChainCallback(model, fractions=[0.25, 0.75], warmup_steps=1)
    watch = Watch(callback)
    options = {"max_steps": 8, "lr_scheduler_type": "constant"}
    make_trainer(model, tmp_path, callbacks=[callback, rates, watch], **options).train()
    assert watch.folds == [0, 1, 1, 1, 1, 2, 2, 2]
    assert rates.taken == [0.05, 0.05, 0.025, 0.05, 0.05, 0.05, 0.025, 0.05]


BATCHES = [{"x": Rows().x[:4], "labels": torch.arange(4)}]


class FirstRates(TrainerCallback):
    """Notes the rate of each step, that of the first group."""

    def __init__(self) -> None:
        self.taken = []

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        self.taken.append(kwargs["optimizer"].param_groups[0]["lr"])


def test_it_folds_where_a_block_captures_too_little_and_warms_up_after_that(tmp_path):
    model, rates = build(), FirstRates()
    below = FoldBelow(0.3, look_every=2, least_steps=2, most_steps=5)
    callback = ChainCallback(model, below=below, batches=BATCHES, warmup_steps=1)
    watch = Watch(callback)
    options = {"max_steps": 20, "lr_scheduler_type": "constant"}
    trainer = make_trainer(model, tmp_path, callbacks=[callback, rates, watch], **options)
    set_seed(5)
    trainer.train()
    shares = {
        entry["step"]: entry["chain_captured_share"]
        for entry in trainer.state.log_history
        if "chain_captured_share" in entry
    }
    begun, expected = 0, []
    for step in range(1, 20):  # after the last step nothing folds
        if step - begun == 5 or shares.get(step, 1) < 0.3:
            expected.append(step)
            begun = step
        else:
            assert (step in shares) == ((step - begun) % 2 == 0)
    assert callback.fold_steps == expected
    lengths = {after - before for before, after in itertools.pairwise([0, *expected])}
    assert {2, 5} <= lengths <= {2, 4, 5}  # both ways
    assert watch.folds == [sum(fold <= step for fold in expected) for step in range(1, 21)]
    assert rates.taken == [0.025 if step in expected else 0.05 for step in range(20)]
    assert callback.report.blocks == len(expected) + 1


def test_the_batches_that_it_looks_at_may_also_be_those_of_its_sketches(tmp_path):
    options = {"below": FoldBelow(0.9999, look_every=4), "sketch": "gradient", "batches": BATCHES}
    folds, report = folds_of(tmp_path, chain=options)
    assert folds == [0, 0, 0, 1, 1, 1, 1, 2, 2]
    assert report.blocks == 3


@pytest.mark.parametrize("fractions", [[0.0], [0.5, 0.5], [0.6, 0.4], [1.0]])
def test_fractions_that_fold_nothing_are_refused(fractions):
    with pytest.raises(SettingsError, match="must rise and lie between 0 and 1"):
        ChainCallback(build(), fractions=fractions)


def test_accumulated_gradients_belong_to_one_step(tmp_path):
    folds, report = folds_of(
        tmp_path, chain={"every": 2}, gradient_accumulation_steps=3, max_steps=4
    )
    assert folds == [0, 1, 1, 1]
    assert report.blocks == 2


@pytest.mark.parametrize(
    ("batch", "accumulation", "steps_an_epoch"), [(4, 1, 3), (5, 1, 3), (4, 2, 2), (5, 3, 1)]
)
def test_it_folds_after_every_so_many_epochs(tmp_path, batch, accumulation, steps_an_epoch):
    folds, _ = folds_of(
        tmp_path,
        chain={"every_epochs": 2},
        max_steps=-1,
        num_train_epochs=5,
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=accumulation,
    )
    assert folds == [step // (2 * steps_an_epoch) for step in range(1, 5 * steps_an_epoch + 1)]


def test_trainer_and_callback_do_what_a_plain_loop_with_a_chain_does(tmp_path):
    model = build()
    callback = ChainCallback(model, every=1, side="right")
    data = Rows()
    options = {"lr_scheduler_type": "constant", "max_grad_norm": 0.0, "max_steps": 3}
    make_trainer(
        model,
        tmp_path,
        callbacks=[callback],
        per_device_train_batch_size=ROWS,
        **options,
    ).train()

    twin = build()
    rows = torch.utils.data.default_collate([data[row] for row in range(ROWS)])
    with Chain(twin, side="right") as chain:
        optimizer = torch.optim.AdamW(trained(twin), lr=0.05, weight_decay=0)
        for step in range(3):
            if step:
                chain.fold(optimizer)
            optimizer.zero_grad()
            twin(**rows)["loss"].backward()
            optimizer.step()
    torch.testing.assert_close(changes(model), changes(twin))


@pytest.mark.parametrize(
    ("chain", "options", "steps", "method"),
    [
        ({"every": 200}, {"max_steps": 20}, 200, "AsymmLoRA, not RAC-LoRA"),
        ({"every": 9, "side": "right"}, {}, 9, "AsymmLoRA, not RAC-LoRA"),
        ({"every": 9, "side": "both"}, {}, 9, "one adapter, and no chain"),
        ({"every_epochs": 1}, {"max_steps": -1, "num_train_epochs": 1}, 3, "AsymmLoRA"),
    ],
)
def test_a_chain_that_will_never_fold_is_warned_of(tmp_path, chain, options, steps, method):
    with pytest.warns(UserWarning, match=rf"never fold: a block is {steps} steps .*{method}"):
        folds, report = folds_of(tmp_path, chain=chain, **options)
    assert not any(folds)
    assert report.blocks == 1


def test_a_chain_that_will_never_be_looked_at_is_warned_of(tmp_path):
    chain = {"below": FoldBelow(0.1, look_every=9), "batches": BATCHES}
    with pytest.warns(UserWarning, match=r"never fold: a block is first looked at after 9 .*Asymm"):
        folds, _ = folds_of(tmp_path, chain=chain)
    assert not any(folds)


def test_a_single_block_that_is_asked_for_is_not_warned_of(tmp_path):
    folds, report = folds_of(tmp_path, chain={"single_block": True})
    assert folds == [0] * 9
    assert report.blocks == 1
