"""Merged weights keep their dtype, and a weight that cannot hold the change is refused."""

from __future__ import annotations

import pytest
import torch
from huggingface_hub import load_torch_model
from peft import LoraConfig
from torch import nn

from rankwise.core.errors import ModelError
from rankwise.export.merged import export_merged
from tests.export.test_lora import TARGETS, Network, X, scrambled

CONFIG = LoraConfig(r=2, target_modules=TARGETS)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shard_size", ["5GB", 200])
def test_the_weights_are_read_back_to_the_same_outputs(tmp_path, dtype, shard_size):
    model = scrambled(Network(dtype=dtype), CONFIG)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    export_merged(model, tmp_path / "out", shard_size=shard_size)
    assert (len(list((tmp_path / "out").glob("*.safetensors"))) > 1) == (shard_size == 200)
    fresh = Network(dtype=dtype)
    load_torch_model(fresh, tmp_path / "out", safe=True)
    tolerance = 1e-5 if dtype == torch.float32 else 5e-2
    x = X.to(dtype)
    torch.testing.assert_close(fresh(x), model(x), rtol=tolerance, atol=tolerance)
    assert all(tensor.equal(before[name]) for name, tensor in model.state_dict().items())


def test_a_quantised_weight_and_a_bare_model_are_refused(tmp_path):
    model = scrambled(Network(), CONFIG)
    layer = model.base_model.model.second.base_layer
    layer.weight = nn.Parameter(torch.ones(8, 10, dtype=torch.int8), requires_grad=False)
    with pytest.raises(ModelError, match=r"second is quantised \(torch\.int8\)"):
        export_merged(model, tmp_path / "out")
    with pytest.raises(ModelError, match="needs a PeftModel with an adapter, got Network"):
        export_merged(Network(), tmp_path / "out")
    assert not list(tmp_path.iterdir())
