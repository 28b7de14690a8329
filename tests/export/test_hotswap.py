"""Exports take one another's place in a loaded model, as servers that swap adapters do it."""

from __future__ import annotations

import pytest
import torch
from peft import PeftModel
from peft.utils.hotswap import hotswap_adapter, prepare_model_for_compiled_hotswap

from rankwise.export.lora import export_lora
from tests.export.test_lora import X, scrambled
from tests.models.adapters import KINDS, TARGETS
from tests.models.networks import Network


@pytest.fixture
def exports(tmp_path):
    """Directories and outputs of adapters of each kind, of different ranks and scalings."""
    found = {}
    for kind, r in {"lora": 3, "lora_xs": 4, "delora": 3}.items():
        model = scrambled(Network(), KINDS[kind](r=r, target_modules=TARGETS))
        rank = export_lora(model, tmp_path / kind).rank
        found[kind] = tmp_path / kind, rank, model(X).detach()
    assert {rank for _, rank, _ in found.values()} == {3, 4, 6}
    return found


@pytest.mark.parametrize("order", [("delora", "lora", "lora_xs"), ("lora_xs", "delora", "lora")])
def test_the_outputs_are_those_of_the_adapter_that_was_swapped_in(exports, order):
    first, *others = order
    model = PeftModel.from_pretrained(Network(), exports[first][0]).eval()
    # Room for the largest rank; the exports' own scaling is 1 whatever their rank.
    prepare_model_for_compiled_hotswap(model, target_rank=8)
    torch.testing.assert_close(model(X), exports[first][2], rtol=1e-5, atol=1e-5)
    for kind in others:
        hotswap_adapter(model, str(exports[kind][0]), adapter_name="default")
        torch.testing.assert_close(model(X), exports[kind][2], rtol=1e-5, atol=1e-5)


def test_equal_ranks_need_no_preparation(tmp_path):
    outputs = {}
    for seed in (0, 1):
        torch.manual_seed(seed)
        model = scrambled(Network(), KINDS["delora"](r=2, target_modules=TARGETS))
        export_lora(model, tmp_path / str(seed))
        outputs[seed] = model(X).detach()
    assert not torch.allclose(outputs[0], outputs[1], atol=1e-3)
    model = PeftModel.from_pretrained(Network(), tmp_path / "0").eval()
    hotswap_adapter(model, str(tmp_path / "1"), adapter_name="default")
    torch.testing.assert_close(model(X), outputs[1], rtol=1e-5, atol=1e-5)
