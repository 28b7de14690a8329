"""What an export says of the servers that are to load it."""

from __future__ import annotations

import pytest
from peft import LoraConfig, get_peft_model
from torch import nn

from rankwise.export.gguf import make_gguf_ready
from rankwise.export.lora import export_lora
from rankwise.export.serving import serving_notes
from tests.models.networks import Network


def notes_for(tmp_path, *, r=2, width=600, **options):
    model = get_peft_model(
        nn.Sequential(nn.Linear(width, width), nn.Linear(width, 2)),
        LoraConfig(r=r, target_modules=["0"], **options),
    )
    return export_lora(model, tmp_path / "out").notes


def test_a_small_rank_asks_for_nothing(tmp_path):
    assert notes_for(tmp_path, r=16) == ()


@pytest.mark.parametrize(("r", "option"), [(17, 32), (24, 32), (100, 128), (300, 320), (512, 512)])
def test_a_rank_above_the_default_names_the_option_of_vllm(tmp_path, r, option):
    (note,) = notes_for(tmp_path, r=r)
    assert note.startswith(f"vLLM needs --max-lora-rank {option} for rank {r} ")


@pytest.mark.filterwarnings("ignore:the exported rank is 513")
def test_a_rank_that_is_not_served_names_the_way_out(tmp_path):
    (note,) = notes_for(tmp_path, r=513)
    assert "--rank 512 compresses" in note


def test_modules_to_save_are_named_until_they_are_set_apart(tmp_path):
    config = LoraConfig(r=2, target_modules=["first"], modules_to_save=["head"])
    export = export_lora(get_peft_model(Network(), config), tmp_path / "out")
    (note,) = export.notes
    assert "vLLM takes no modules_to_save (head)" in note
    make_gguf_ready(export.directory)
    assert serving_notes(export.directory) == ()
