"""An adapter directory from anywhere is data: nothing that it says leads out of it."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from rankwise.core.errors import AdapterError, RankwiseError
from rankwise.export.compressed import compress_directory
from rankwise.export.gguf import make_gguf_ready
from rankwise.export.ledger import export_ledger
from rankwise.methods.adapters.directory import (
    CONFIG,
    LARGEST_CONFIG_BYTES,
    LARGEST_HEADER_BYTES,
    WEIGHTS,
    check_adapter_directory,
)
from rankwise.methods.adapters.switching import loaded_adapter
from rankwise.methods.chain.ledger import FILE_NAME, read_ledger
from tests.models.chains import build, chained
from tests.models.networks import MixedNetwork

opened: list[str] | None = None  # what is opened while a test watches


def _watch(event: str, arguments: tuple) -> None:
    if opened is not None and event == "open" and isinstance(arguments[0], str):
        opened.append(os.path.realpath(arguments[0]))


sys.addaudithook(_watch)


@pytest.fixture
def adapter(tmp_path) -> Path:
    build(init_lora_weights=False).save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


@pytest.fixture
def ledger(tmp_path) -> Path:
    model = build()
    chain = chained(model, folds=1)
    model.save_pretrained(tmp_path / "ledger")
    chain.finish()
    return tmp_path / "ledger"


@pytest.fixture
def outside(tmp_path) -> Path:
    """What looks like a base model beside the directory."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "secret").write_text("secret")
    return folder


def change_config(directory: Path, **changes) -> None:
    path = directory / CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def lend(directory: Path) -> None:
    with loaded_adapter(build(), directory):
        pass


READERS = [check_adapter_directory, lend]


@pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to")
@pytest.mark.parametrize("name", ["{outside}", "../outside", "/etc/passwd", "../../../../etc"])
def test_the_name_of_the_base_model_is_never_followed(adapter, ledger, outside, tmp_path, name):
    global opened
    name = name.format(outside=outside)
    for directory in (adapter, ledger):
        change_config(directory, base_model_name_or_path=name)
    opened = []
    try:
        check_adapter_directory(adapter)
        lend(adapter)
        PeftModel.from_pretrained(MixedNetwork(), adapter)
        compress_directory(adapter, 1)
        make_gguf_ready(adapter)
        export_ledger(ledger, tmp_path / "exported")
    finally:
        found, opened = opened, None
    assert str(adapter / WEIGHTS) in found
    assert not [each for each in found if each.startswith((str(outside), "/etc/"))]
    exported = json.loads((tmp_path / "exported" / CONFIG).read_text())
    assert exported["base_model_name_or_path"] == name  # told, as it was told


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
def test_links_are_not_followed(adapter, tmp_path, read, name):
    (adapter / name).rename(tmp_path / name)
    (adapter / name).symlink_to(tmp_path / name)
    with pytest.raises(AdapterError, match="is a link, which is not followed"):
        read(adapter)


@pytest.mark.parametrize("name", [FILE_NAME, WEIGHTS])
def test_links_of_a_ledger_are_not_followed(ledger, tmp_path, name):
    (ledger / name).rename(tmp_path / name)
    (ledger / name).symlink_to(tmp_path / name)
    with pytest.raises(AdapterError, match="is a link, which is not followed"):
        export_ledger(ledger, tmp_path / "out")


@pytest.mark.parametrize("read", READERS)
def test_a_pickle_is_not_opened(adapter, read):
    tensors = load_file(adapter / WEIGHTS)
    (adapter / WEIGHTS).unlink()
    torch.save(tensors, adapter / "adapter_model.bin")
    with pytest.raises(AdapterError, match=r"a pickle, \.bin, is never read"):
        read(adapter)


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("claimed", [LARGEST_HEADER_BYTES + 1, 2**63, 2**64 - 1])
def test_a_header_beyond_all_sense_is_refused(adapter, ledger, read, claimed):
    for path in (adapter / WEIGHTS, ledger / FILE_NAME):
        path.write_bytes(claimed.to_bytes(8, "little") + path.read_bytes()[8:])
    with pytest.raises(AdapterError, match="its header claims"):
        read(adapter)
    with pytest.raises(AdapterError, match="its header claims"):
        read_ledger(ledger)


def test_a_header_that_promises_more_than_the_file_holds_is_refused(adapter):
    header = {"x.lora_A.weight": {"dtype": "F32", "shape": [2**20, 2**20], "data_offsets": [0, 8]}}
    text = json.dumps(header).encode()
    (adapter / WEIGHTS).write_bytes(len(text).to_bytes(8, "little") + text + bytes(8))
    with pytest.raises(AdapterError, match="is damaged"):
        check_adapter_directory(adapter)


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(
    "changes",
    [{"r": 2**40}, {"r": 0}, {"r": "2"}, {"r": True}, {"rank_pattern": {"first": 2**40}}],
)
def test_a_rank_that_no_tensor_has_is_refused_before_it_is_allocated(adapter, read, changes):
    change_config(adapter, **changes)
    with pytest.raises(AdapterError, match=r"names the rank .* but no tensor"):
        read(adapter)


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"megatron_config": {}, "megatron_core": "os"}, "names a module to be imported"),
        ({"rank_pattern": [1]}, "rank_pattern that maps nothing"),
        ({"note": "x" * LARGEST_CONFIG_BYTES}, "no adapter's config is so big"),
        ({"peft_type": 3}, "names no peft_type"),
    ],
)
def test_a_config_that_wants_more_than_it_may_is_refused(adapter, read, changes, message):
    change_config(adapter, **changes)
    with pytest.raises(AdapterError, match=message):
        read(adapter)


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_named(adapter, read, value):
    tensors = load_file(adapter / WEIGHTS)
    name = sorted(tensors)[0]
    tensors[name][0, 0] = value
    save_file(tensors, adapter / WEIGHTS)
    with pytest.raises(AdapterError, match=rf"{name} .* not finite"):
        read(adapter)


def test_a_ledger_with_such_values_is_not_exported(ledger, tmp_path):
    with safe_open(ledger / FILE_NAME, framework="pt") as file:
        metadata = file.metadata()
    tensors = load_file(ledger / FILE_NAME)
    next(iter(tensors.values()))[0, 0] = float("inf")
    save_file(tensors, ledger / FILE_NAME, metadata=metadata)
    with pytest.raises(AdapterError, match="is not finite"):
        export_ledger(ledger, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("shape", [(2, 999), (999, 7), (2,), (2, 7, 1)])
def test_a_tensor_of_another_shape_is_refused(adapter, shape):
    tensors = load_file(adapter / WEIGHTS)
    name = next(key for key in tensors if "first.lora_A" in key)
    tensors[name] = torch.zeros(shape)
    save_file(tensors, adapter / WEIGHTS)
    with pytest.raises(RankwiseError, match="does not fit"):
        lend(adapter)
