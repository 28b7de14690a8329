"""The ledger: what it holds, that it comes back whole, and that anything else is refused."""

import json

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from rankwise.core.errors import AdapterError, SettingsError
from rankwise.methods.chain import ledger as ledgers
from rankwise.methods.chain.chain import Chain
from rankwise.methods.chain.ledger import FILE_NAME, read_ledger
from tests.models.chains import (
    NAMES,
    base_weights,
    build,
    chained,
    layers,
    optimizer_of,
    outputs,
    train,
)


def random_gradients(layers, *, consume):
    for name, layer in layers.items():
        shape = layer.weight.shape if hasattr(layer, "in_features") else layer.weight.T.shape
        consume(name, torch.randn(shape, generator=torch.Generator().manual_seed(3)))


SETUPS = {
    "left": {"side": "left"},
    "right": {"side": "right", "sketch": "orthonormal"},
    "both": {"side": "both"},
    "gradient": {"side": "left", "sketch": "gradient", "gradients": random_gradients},
}


def header_of(path):
    with safe_open(path, framework="pt") as file:
        return json.loads(file.metadata()["rankwise_chain"])


def rewrite(directory, change):
    """Change the header and the tensors of a ledger by hand."""
    path = directory / FILE_NAME
    tensors, header = load_file(path), header_of(path)
    change(header, tensors)
    save_file(tensors, path, metadata={"rankwise_chain": json.dumps(header)})


@pytest.fixture
def saved(tmp_path):
    chained(build(), folds=2).save(tmp_path)
    return tmp_path


@pytest.mark.parametrize("inherited", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("setup", SETUPS.values(), ids=SETUPS)
def test_a_chain_comes_back_bit_for_bit_and_goes_on_alike(tmp_path, setup, dtype, inherited):
    def make(start):
        model = build(dtype, init_lora_weights=not start)
        return model, Chain(model, **setup)

    model, chain = make(inherited)
    train(model, optimizer_of(model))
    chain.fold()
    train(model, optimizer_of(model))
    chain.save(tmp_path)

    again, resumed = make(False)  # resuming need not repeat the init
    resumed.load(tmp_path)
    assert resumed.folds == chain.folds == 1 + inherited
    for each, one in ((model, chain), (again, resumed)):
        one.fold()
        train(each, optimizer_of(each))
    assert torch.equal(outputs(model), outputs(again))
    for first, second in zip(base_weights(model), base_weights(again), strict=True):
        assert torch.equal(first, second)
    chain.save(tmp_path / "one")
    resumed.save(tmp_path / "other")
    files = [(tmp_path / name / FILE_NAME).read_bytes() for name in ("one", "other")]
    assert files[0] == files[1]
    chain.finish()
    resumed.finish()
    assert torch.equal(outputs(model), outputs(again))


@pytest.mark.parametrize(
    ("setup", "factors"),
    [("left", {"A"}), ("right", {"B"}), ("both", {"A", "B"}), ("gradient", {"A", "B"})],
)
def test_sketches_that_a_seed_gives_back_are_not_stored(tmp_path, setup, factors):
    chained(build(), folds=2, **SETUPS[setup]).save(tmp_path)
    assert set(load_file(tmp_path / FILE_NAME)) == {
        f"{name}.{block}.{factor}" for name in NAMES for block in range(3) for factor in factors
    }


def test_the_header_says_how_the_chain_was_set_up(saved):
    assert header_of(saved / FILE_NAME) == {
        "format_version": 1,
        "identity": {
            "side": "left",
            "sketch": "gaussian",
            "seed": 0,
            "layers": {NAMES[0]: [6, 7, 2, 3.0], NAMES[1]: [5, 6, 2, 3.0]},
        },
        "folds": 2,
        "is_inherited": False,
        "config": {"target_modules": ["first", "second"], "fan_in_fan_out": True},
    }


def test_it_says_at_which_steps_the_folds_were_that_were_told_theirs(tmp_path):
    chain = Chain(build())
    for step in (3, None, 8):
        chain.fold(step=step)
    chain.save(tmp_path)
    assert header_of(tmp_path / FILE_NAME)["fold_steps"] == [3, None, 8]
    assert read_ledger(tmp_path).fold_steps == chain.fold_steps == (3, None, 8)


@pytest.mark.parametrize("step", [0, 5, 4.0, np.int64(8), "8"])
def test_a_step_that_could_not_be_read_again_is_refused_and_nothing_is_folded(step):
    model = build()
    chain = Chain(model)
    chain.fold(step=5)
    before = {name: each.clone() for name, each in model.state_dict().items()}
    with pytest.raises(SettingsError, match=r"step must be an integer above 5, .* nothing was"):
        chain.fold(step=step)
    assert (chain.folds, chain.fold_steps) == (1, (5,))
    for name, each in model.state_dict().items():
        assert torch.equal(each, before[name])


@pytest.mark.parametrize(
    "steps", [[3], [3, 3], [5, 4], [0, 2], [1.5, 2], "ab", {"3": 4}, 7, [3, 4, 5]]
)
def test_steps_at_which_no_chain_can_have_folded_are_refused(saved, tmp_path, steps):
    header = {**header_of(saved / FILE_NAME), "fold_steps": steps}
    save_file(
        load_file(saved / FILE_NAME),
        tmp_path / FILE_NAME,
        metadata={"rankwise_chain": json.dumps(header)},
    )
    with pytest.raises(AdapterError, match=r"has a damaged header \(fold_steps="):
        read_ledger(tmp_path)


def test_a_missing_ledger_is_refused(tmp_path):
    with pytest.raises(AdapterError, match=r"no ledger of a chain at .*rankwise_chain.safetensors"):
        read_ledger(tmp_path)


def test_the_ledger_of_an_adapter_of_another_name_is_named(tmp_path):
    chained(build(), folds=1).save(tmp_path / "other")
    with pytest.raises(AdapterError, match=r"no ledger .*: name \S+other, which has one"):
        read_ledger(tmp_path)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.7, 0.999])
def test_a_truncated_ledger_is_refused(saved, share):
    path = saved / FILE_NAME
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(AdapterError, match=r"is damaged \(.*\): use an earlier checkpoint"):
        read_ledger(saved)


def test_another_safetensors_file_is_refused(tmp_path):
    save_file({"x": torch.ones(1)}, tmp_path / FILE_NAME)
    with pytest.raises(AdapterError, match="is not the ledger of a chain"):
        read_ledger(tmp_path)


def test_a_newer_format_is_refused(saved):
    rewrite(saved, lambda header, _: header.update(format_version=2))
    with pytest.raises(AdapterError, match="has format version 2, this Rankwise reads 1: install"):
        read_ledger(saved)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda header: header.pop("folds"), r"damaged header \(KeyError\('folds'\)\)"),
        (lambda header: header["identity"].pop("seed"), "damaged header"),
        (lambda header: header["identity"].update(layers=3), r"damaged header \(layers=3\)"),
        (lambda header: header.update(folds=10**9), "names 1000000000 folded blocks for 6 tensors"),
        (lambda header: header.update(folds=-1), "names -1 folded blocks"),
        (lambda header: header.update(config=3), "damaged header"),
        (lambda header: header["config"].update(auto_mapping={}), r"header \('auto_mapping': {}\)"),
        (lambda header: header["config"].update(target_modules=[{}]), r"'target_modules': \[{}\]"),
    ],
)
def test_a_damaged_header_is_refused(saved, change, message):
    rewrite(saved, lambda header, _: change(header))
    with pytest.raises(AdapterError, match=message):
        read_ledger(saved)


KEY = f"{NAMES[0]}.0.A"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors.pop(KEY), f"tensor {KEY} is None in the ledger and must be"),
        (lambda tensors: tensors.update(x=torch.ones(1)), r"tensor x is .* and must be None"),
        (lambda tensors: tensors.update({KEY: torch.ones(2, 6)}), r"\(2, 6\).* must be \(\(2, 7\)"),
        (
            lambda tensors: tensors.update({KEY: tensors[KEY].half()}),
            r"torch.float16\) in the ledger and must be .*torch.float32",
        ),
    ],
)
def test_tensors_that_do_not_fit_the_model_are_refused_and_change_nothing(saved, change, message):
    rewrite(saved, lambda _, tensors: change(tensors))
    model = build()
    chain = chained(model)
    before = outputs(model)
    with pytest.raises(AdapterError, match=message):
        chain.load(saved)
    assert torch.equal(outputs(model), before)
    assert chain.folds == 3


@pytest.mark.parametrize(
    ("config", "options", "message"),
    [
        ({}, {"seed": 1}, "a chain with seed=0, this one has 1: build the chain as it was"),
        ({}, {"side": "right"}, "a chain with side='left', this one has 'right'"),
        ({}, {"sketch": "selector"}, "with sketch='gaussian', this one has 'selector'"),
        ({"r": 3}, {}, r"\[\d, \d, 2, 3.0\] in the ledger and \[\d, \d, 3, 2.0\] in the model"),
        ({"lora_alpha": 8}, {}, r"3.0\] in the ledger and .* 4.0\] in the model"),
        ({"target_modules": ["first"]}, {}, r"second has .* in the ledger and None in the model"),
    ],
)
def test_the_ledger_of_another_chain_is_refused(saved, config, options, message):
    model = build(**config)
    with pytest.raises(AdapterError, match=message):
        Chain(model, **options).load(saved)


def test_a_write_that_fails_leaves_the_earlier_ledger_and_nothing_else(saved, monkeypatch):
    before = (saved / FILE_NAME).read_bytes()

    def fail_midway(tensors, path, metadata):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    chain = chained(build())
    monkeypatch.setattr(ledgers, "save_file", fail_midway)
    with pytest.raises(KeyboardInterrupt):
        chain.save(saved)
    assert [entry.name for entry in saved.iterdir()] == [FILE_NAME]
    assert (saved / FILE_NAME).read_bytes() == before


def test_the_open_block_comes_back_with_its_sketch(saved):
    model = build()
    Chain(model).load(saved)
    original = build()
    chained(original, folds=2)
    for first, second in zip(layers(model).values(), layers(original).values(), strict=True):
        for part in ("lora_A", "lora_B"):
            loaded, expected = (getattr(each, part)["default"].weight for each in (first, second))
            assert torch.equal(loaded, expected)
