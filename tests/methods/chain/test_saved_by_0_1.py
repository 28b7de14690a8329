"""Directories that Rankwise 0.1 saved amid a chain: loaded as that version loaded them.

``saved_by_0_1/`` holds, per set-up, what ``save_pretrained`` wrote after two folds, and the outputs
that the model had then.
"""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from rankwise.core.errors import AdapterError
from rankwise.methods.chain.chain import Chain
from rankwise.methods.chain.ledger import FILE_NAME
from tests.models.chains import base_weights, build, outputs

SAVED = Path(__file__).parent / "saved_by_0_1"
SETUPS = {
    "left": {"side": "left"},
    "inherited": {"side": "right", "sketch": "orthonormal"},
    "both": {"side": "both", "seed": 3},
}
setups = pytest.mark.parametrize("name", SETUPS)


def loaded(name):
    model = build()
    chain = Chain(model, **SETUPS[name])
    chain.load(SAVED / name)
    return model, chain


@setups
def test_the_model_computes_as_it_did(name):
    expected = json.loads((SAVED / name / "expected.json").read_text())
    model, chain = loaded(name)
    assert chain.folds == expected["folds"]
    torch.testing.assert_close(outputs(model), torch.tensor(expected["outputs"]))


@setups
def test_what_is_saved_again_is_the_same(name, tmp_path):
    model, chain = loaded(name)
    model.save_pretrained(tmp_path)
    for file in (FILE_NAME, "adapter_model.safetensors"):
        before, after = load_file(SAVED / name / file), load_file(tmp_path / file)
        assert before.keys() == after.keys()
        assert all(torch.equal(value, after[key]) for key, value in before.items())
    written, before = (
        json.loads((folder / "adapter_config.json").read_text())
        for folder in (tmp_path, SAVED / name)
    )
    # Where the class of the network stands is the tests' own business.
    assert written | {"auto_mapping": None} == before | {"auto_mapping": None}
    chain.finish()


@setups
def test_the_chain_ends_with_the_base_restored(name):
    before = base_weights(build())
    model, chain = loaded(name)
    learned = outputs(model)
    chain.finish()
    assert all(map(torch.equal, base_weights(model), before))
    torch.testing.assert_close(outputs(model), learned, rtol=1e-5, atol=1e-5)


@setups
def test_it_is_still_not_taken_for_a_lora(name):
    with pytest.raises(AdapterError, match="unfinished chain"):
        build().load_adapter(SAVED / name, "second")
