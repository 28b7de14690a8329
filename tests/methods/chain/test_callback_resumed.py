"""A chain under Trainer that was stopped resumes exactly."""

from __future__ import annotations

import functools

import pytest
import torch
from transformers.trainer_utils import set_seed

from rankwise.core.errors import AdapterError, ChainError
from rankwise.methods.chain.callback import ChainCallback
from rankwise.methods.chain.fold_steps import FoldBelow
from tests.models.chain_trainers import (
    Rows,
    StopAt,
    changes,
    make_trainer,
)
from tests.models.chains import (
    build,
    same,
)

pytestmark = pytest.mark.runs


def batches():
    return [{"x": Rows().x[:4], "labels": torch.arange(4)}]


def run(folder, *, chain, callbacks=(), resume=None, **options):
    """Train a model made afresh, as another process would."""
    set_seed(5)
    model = build()
    chain = {key: value() if key == "batches" else value for key, value in chain.items()}
    callback = ChainCallback(model, **chain)
    trainer = make_trainer(model, folder, callbacks=[callback, *callbacks], **options)
    trainer.train(resume_from_checkpoint=resume)
    return model


CHAINS = {
    "left": {"every": 3, "side": "left", "warmup_steps": 2},
    "both": {"every_epochs": 1, "side": "both"},
    "kept": {"every": 2, "side": "right", "reset_optimizer": False, "sketch": "orthonormal"},
    "gradient": {"every": 3, "sketch": "gradient", "batches": batches},
    "below": {
        "below": FoldBelow(0.3, look_every=1, least_steps=2, most_steps=4),
        "side": "left",
        "warmup_steps": 2,
        "batches": batches,
    },
}


@pytest.fixture(scope="module")
def run_of(tmp_path_factory):
    """Return the model that an uninterrupted run ends with, trained once a chain."""

    @functools.cache
    def run_whole(name):
        return run(tmp_path_factory.mktemp("whole"), chain=CHAINS[name])

    return run_whole


@pytest.mark.parametrize(
    ("name", "step"),
    [("left", 2), ("left", 3), ("left", 4), ("left", 7), ("both", 3), ("kept", 5), ("gradient", 6)]
    + [("below", step) for step in (1, 2, 3, 5)],
)
def test_a_run_that_was_stopped_and_resumed_ends_bit_for_bit_as_one_that_was_not(
    tmp_path, run_of, name, step
):
    run(tmp_path, chain=CHAINS[name], callbacks=[StopAt(step)])
    resumed = run(tmp_path, chain=CHAINS[name], resume=True).state_dict()
    whole = run_of(name).state_dict()
    assert whole.keys() == resumed.keys()
    for key, value in whole.items():
        assert torch.equal(value, resumed[key]), key


def test_what_was_seen_and_folded_before_is_known_after_a_resume(tmp_path):
    def ended(folder, stops, *, resume=None):
        set_seed(5)
        model = build()
        callback = ChainCallback(model, **{**CHAINS["below"], "batches": batches()})
        stops = [StopAt(step) for step in stops]
        trainer = make_trainer(model, folder, callbacks=[callback, *stops])
        trainer.train(resume_from_checkpoint=resume)
        log = trainer.state.log_history
        return callback.fold_steps, [each for each in log if "chain_captured_share" in each]

    whole = ended(tmp_path / "whole", [])
    ended(tmp_path / "part", [4])
    resumed = ended(tmp_path / "part", [], resume=True)
    assert resumed == whole
    assert len(whole[0]) > 1


def test_a_chain_that_was_begun_under_fixed_steps_is_not_resumed_under_a_bound(tmp_path):
    fixed = {"every": 3, "side": "left"}
    run(tmp_path, chain=fixed, callbacks=[StopAt(4)])
    with pytest.raises(ChainError, match="resume a chain under the schedule that it began with"):
        run(tmp_path, chain=CHAINS["below"], resume=True)


def test_a_resumed_run_reads_the_directory_that_train_is_given(tmp_path, run_of):
    run(tmp_path, chain=CHAINS["left"], callbacks=[StopAt(5)])
    (tmp_path / "checkpoint-5").rename(tmp_path / "elsewhere")
    resumed = run(tmp_path / "new", chain=CHAINS["left"], resume=str(tmp_path / "elsewhere"))
    assert same(changes(resumed), changes(run_of("left")))


def resume_with_late_callback(folder, resume):
    model = build()
    trainer = make_trainer(model, folder, callbacks=[])
    with ChainCallback(model, **CHAINS["left"]) as callback:
        trainer.add_callback(callback)
        trainer.train(resume_from_checkpoint=str(resume))
    return model


def test_a_callback_that_joins_later_resumes_from_the_output_directory(tmp_path, run_of):
    run(tmp_path, chain=CHAINS["left"], callbacks=[StopAt(5)])
    resumed = resume_with_late_callback(tmp_path, tmp_path / "checkpoint-5")
    assert same(changes(resumed), changes(run_of("left")))


def test_a_ledger_beside_other_weights_is_refused(tmp_path):
    run(tmp_path / "one", chain=CHAINS["left"], callbacks=[StopAt(5)])
    run(tmp_path / "two", chain=CHAINS["left"], callbacks=[StopAt(5)], learning_rate=0.01)
    with pytest.raises(ChainError, match="checkpoint-5 is not the checkpoint that the Trainer has"):
        resume_with_late_callback(tmp_path / "two", tmp_path / "one" / "checkpoint-5")


def test_resuming_with_another_chain_is_refused(tmp_path):
    run(tmp_path, chain=CHAINS["left"], callbacks=[StopAt(4)])
    with pytest.raises(AdapterError, match="a chain with seed=0, this one has 1"):
        run(tmp_path, chain={**CHAINS["left"], "seed": 1}, resume=True)


def test_resuming_from_nothing_is_refused_by_the_trainer(tmp_path):
    with pytest.raises(ValueError, match="No valid checkpoint found"):
        run(tmp_path, chain=CHAINS["left"], resume=True)
