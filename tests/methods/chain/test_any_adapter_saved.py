"""A chain of LoRA-XS or DeLoRA on disk: its ledger, and a run that is stopped and resumed."""

from __future__ import annotations

import pytest
import torch
from peft import PeftModel
from peft.tuners import lora
from transformers.trainer_utils import set_seed

from rankwise.core.errors import AdapterError
from rankwise.export.ledger import export_ledger
from rankwise.methods.chain.callback import ChainCallback
from rankwise.methods.chain.chain import Chain
from tests.models.any_chains import (
    build,
    chained,
    kinds,
    two_kinds,
)
from tests.models.chain_trainers import StopAt, make_trainer
from tests.models.chains import (
    layers,
    optimizer_of,
    outputs,
    same,
    train,
    trained,
)

# PEFT's, where layers of a model differ in how they store their weight.
pytestmark = pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to")


# --- the ledger ----------------------------------------------------------------------------------


@kinds
def test_a_ledger_gives_the_chain_back_bit_for_bit(kind, tmp_path):
    model = build(kind)
    chain = chained(model)
    chain.save(tmp_path)
    twin = build(kind)
    again = Chain(twin)
    again.load(tmp_path)
    assert torch.equal(outputs(twin), outputs(model))
    for each, other in ((model, chain), (twin, again)):
        train(each, optimizer_of(each))
        other.fold()
        train(each, optimizer_of(each))
        other.finish()
    assert same(model.state_dict().values(), twin.state_dict().values())


@kinds
def test_a_ledger_leaves_as_the_lora_of_the_finished_chain(kind, tmp_path):
    model = build(kind)
    chain = chained(model)
    model.save_pretrained(tmp_path / "saved")
    export_ledger(tmp_path / "saved", tmp_path / "lora")
    chain.finish()
    loaded = PeftModel.from_pretrained(build(kind).unload(), tmp_path / "lora")
    torch.testing.assert_close(outputs(loaded), outputs(model), rtol=1e-5, atol=1e-5)


@two_kinds
def test_a_directory_saved_amid_it_is_no_adapter(kind, tmp_path):
    model = build(kind)
    chained(model)
    model.save_pretrained(tmp_path)
    with pytest.raises(AdapterError, match="unfinished chain"):
        PeftModel.from_pretrained(build(kind).unload(), tmp_path)


def test_a_ledger_of_another_adapter_is_refused(tmp_path):
    chained(build("delora"), sketch="orthonormal").save(tmp_path)
    model = build("lora_xs")
    before = outputs(model)
    chain = Chain(model, sketch="orthonormal")
    with pytest.raises(AdapterError, match="in the ledger"):
        chain.load(tmp_path)
    torch.testing.assert_close(outputs(model), before, atol=1e-4, rtol=0)


# --- under Trainer -------------------------------------------------------------------------------


def run(kind: str, folder, *, callbacks=(), resume=None, **options) -> PeftModel:
    set_seed(5)
    model = build(kind)
    chain = ChainCallback(model, every=3, warmup_steps=1, **options)
    make_trainer(model, folder, callbacks=[chain, *callbacks]).train(resume_from_checkpoint=resume)
    return model


@two_kinds
@pytest.mark.parametrize("step", [3, 5])
def test_a_run_that_was_stopped_and_resumed_ends_bit_for_bit_as_one_that_was_not(
    kind, step, tmp_path
):
    whole = run(kind, tmp_path / "whole")
    run(kind, tmp_path / "stopped", callbacks=[StopAt(step)])
    resumed = run(kind, tmp_path / "stopped", resume=True)
    assert {type(layer) for layer in layers(resumed).values()} == {lora.Linear}
    assert same(whole.state_dict().values(), resumed.state_dict().values())
    assert len(trained(resumed)) == 4
