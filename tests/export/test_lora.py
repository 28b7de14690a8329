"""Exporting as plain LoRA: the same change in the layout that PEFT and servers read."""

from __future__ import annotations

import json

import peft
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from torch import nn
from transformers import GPT2LMHeadModel

from rankwise.core.errors import (
    AdapterError,
    ChainError,
    ModelError,
    SettingsError,
)
from rankwise.core.vllm import LARGEST_RANK
from rankwise.export.lora import export_lora
from rankwise.methods.adapters.delora import DeloraConfig
from rankwise.methods.adapters.lora_xs import LoraXSConfig
from rankwise.methods.adapters.peft_types import RankwisePeftType
from tests.models.adapters import TARGETS, inputs
from tests.models.architectures import bert, gpt2, roberta
from tests.models.networks import Network


def scrambled(base, config):
    """Attach an adapter and give what trains random values."""
    model = get_peft_model(base, config).eval()
    for parameter in model.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.3)
    return model


def read_back(base, directory):
    return PeftModel.from_pretrained(base, directory).eval()


X = inputs()
PATTERN = {"second": 2}

ADAPTERS = {
    "lora_xs": (LoraXSConfig(r=4, target_modules=TARGETS, rank_pattern=PATTERN), 4),
    "lora_xs scaled": (LoraXSConfig(r=4, lora_alpha=6, target_modules=TARGETS), 4),
    "delora": (DeloraConfig(r=3, target_modules=TARGETS, rank_pattern=PATTERN), 6),
    "lora": (LoraConfig(r=4, lora_alpha=7, target_modules=TARGETS, rank_pattern=PATTERN), 4),
    "rslora": (LoraConfig(r=4, lora_alpha=7, target_modules=TARGETS, use_rslora=True), 4),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("config", "rank"), ADAPTERS.values(), ids=ADAPTERS.keys())
def test_the_directory_gives_the_same_outputs(config, rank, dtype, tmp_path):
    model = scrambled(Network(dtype=dtype), config)
    report = export_lora(model, tmp_path / "out")
    assert report.directory == tmp_path / "out"
    assert report.rank == rank
    assert report.largest_difference <= 1e-6
    x = X.to(dtype)
    tolerance = 1e-5 if dtype == torch.float32 else 3e-2
    outputs = read_back(Network(dtype=dtype), tmp_path / "out")(x)
    torch.testing.assert_close(outputs, model(x), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("config", [config for config, _ in ADAPTERS.values()], ids=ADAPTERS.keys())
def test_all_layers_have_one_rank_and_there_are_no_patterns(config, tmp_path):
    report = export_lora(scrambled(Network(), config), tmp_path / "out")
    written = json.loads((report.directory / "adapter_config.json").read_text())
    assert written["peft_type"] == "LORA"
    assert written["r"] == written["lora_alpha"] == report.rank
    assert sorted(written["target_modules"]) == TARGETS
    assert not written["rank_pattern"]
    assert not written["alpha_pattern"]
    assert not written["use_rslora"]
    tensors = load_file(report.directory / "adapter_model.safetensors")
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    assert shapes == {
        "base_model.model.first.lora_A.weight": (report.rank, 12),
        "base_model.model.first.lora_B.weight": (10, report.rank),
        "base_model.model.second.lora_A.weight": (report.rank, 10),
        "base_model.model.second.lora_B.weight": (8, report.rank),
    }


def test_a_classifier_goes_along(tmp_path):
    adapter = DeloraConfig(r=2, target_modules=["query", "value"], task_type="SEQ_CLS")
    model = scrambled(bert(), adapter)
    export_lora(model, tmp_path / "out")

    tokens = torch.arange(6).reshape(1, 6)
    loaded = read_back(bert(), tmp_path / "out")
    torch.testing.assert_close(loaded(tokens).logits, model(tokens).logits)
    assert {"classifier", "score"} <= set(loaded.peft_config["default"].modules_to_save)


def test_transposed_layers_are_exported_too(tmp_path):
    model = scrambled(gpt2(), LoraXSConfig(r=4, target_modules=["c_attn"], task_type="CAUSAL_LM"))
    export_lora(model, tmp_path / "out")
    tokens = torch.arange(6).reshape(1, 6)
    loaded = read_back(gpt2(), tmp_path / "out")
    torch.testing.assert_close(loaded(tokens).logits, model(tokens).logits)


def test_another_adapter_of_the_model_can_be_chosen(tmp_path):
    model = scrambled(Network(), ADAPTERS["lora_xs"][0])
    model.add_adapter("other", LoraXSConfig(r=2, target_modules=["first"]))
    model.set_adapter("other")
    nn.init.normal_(model.base_model.model.first.parts("other")[0])
    expected = model(X)
    model.set_adapter("default")
    assert export_lora(model, tmp_path / "out", adapter_name="other").rank == 2
    outputs = read_back(Network(), tmp_path / "out")(X)
    torch.testing.assert_close(outputs, expected, rtol=1e-5, atol=1e-6)


def test_an_untrained_adapter_is_exported_as_no_change(tmp_path):
    model = get_peft_model(Network(), DeloraConfig(r=2, target_modules=TARGETS))
    assert export_lora(model, tmp_path / "out").largest_difference == 0
    assert torch.equal(read_back(Network(), tmp_path / "out")(X), Network()(X))


def test_the_model_stays_as_it_is(tmp_path):
    model = scrambled(
        Network(), DeloraConfig(r=2, target_modules=TARGETS, modules_to_save=["head"])
    )
    model.train()
    state = torch.get_rng_state()
    modules = {name: type(module) for name, module in model.named_modules()}
    before = {name: (p, p.clone(), p.requires_grad) for name, p in model.named_parameters()}
    export_lora(model, tmp_path / "out")
    assert torch.equal(torch.get_rng_state(), state)
    assert {name: type(module) for name, module in model.named_modules()} == modules
    assert all(module.training for module in model.modules())
    for name, parameter in model.named_parameters():
        same, values, requires_grad = before[name]
        assert parameter is same
        assert torch.equal(parameter, values)
        assert parameter.requires_grad == requires_grad


def test_an_empty_directory_is_filled_and_a_full_one_refused(tmp_path):
    model = scrambled(Network(), ADAPTERS["delora"][0])
    empty = tmp_path / "deep" / "out"
    empty.mkdir(parents=True)
    export_lora(model, empty)
    with pytest.raises(SettingsError, match="is not empty: choose a new directory"):
        export_lora(model, empty)


def test_values_that_are_not_finite_are_refused_and_nothing_is_left(tmp_path):
    model = scrambled(Network(), ADAPTERS["lora_xs"][0])
    model.base_model.model.second.parts("default")[0].data.fill_(float("nan"))
    with pytest.raises(AdapterError, match=r"change of base_model\.model\.second has values that"):
        export_lora(model, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_factors_that_overflow_float16_are_refused_before_anything_is_written(tmp_path):
    config = LoraConfig(r=2, lora_alpha=4, target_modules=TARGETS)
    model = get_peft_model(Network(dtype=torch.float16), config, autocast_adapter_dtype=False)
    model.base_model.model.second.lora_B["default"].weight.data.fill_(5e4)
    with pytest.raises(AdapterError, match=r"second has values that are not finite in torch.float"):
        export_lora(model, tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("config_class", [LoraConfig, LoraXSConfig, DeloraConfig])
def test_a_head_of_several_layers_goes_along(config_class, tmp_path):
    adapter = config_class(r=2, target_modules=["query", "value"], task_type="SEQ_CLS")
    model = scrambled(roberta(), adapter)
    export_lora(model, tmp_path / "out")
    tokens = torch.arange(2, 8).reshape(1, 6)
    loaded = read_back(roberta(), tmp_path / "out")
    torch.testing.assert_close(loaded(tokens).logits, model(tokens).logits, rtol=1e-5, atol=1e-6)


class Containers(Network):
    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            self.head = nn.Sequential(nn.Linear(8, 4), nn.Tanh(), nn.Linear(4, 3))


def test_modules_to_save_may_be_containers(tmp_path):
    adapter = DeloraConfig(r=2, target_modules=TARGETS, modules_to_save=["head"])
    model = scrambled(Containers(), adapter)
    export_lora(model, tmp_path / "out")
    outputs = read_back(Containers(), tmp_path / "out")(X)
    torch.testing.assert_close(outputs, model(X), rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore:You are trying to modify a model with PEFT for a second time")
@pytest.mark.filterwarnings("ignore:Already found a `peft_config` attribute")
def test_a_peft_model_inside_another_leaves_as_one_adapter(tmp_path):
    inner = get_peft_model(
        Network(), LoraConfig(r=2, target_modules=["first"], modules_to_save=["head"])
    )
    model = scrambled(inner, LoraConfig(r=3, target_modules=["second"]))
    for parameter in model.parameters():
        if parameter.shape[0] in (2, 3):
            nn.init.normal_(parameter, std=0.3)
    assert export_lora(model, tmp_path / "out").rank == 3
    outputs = read_back(Network(), tmp_path / "out")(X)
    torch.testing.assert_close(outputs, model(X), rtol=1e-5, atol=1e-6)


def test_no_layer_leaves_with_more_than_the_rank_of_its_smaller_side(tmp_path):
    """Twenty blocks of rank 2 on layers of 12 × 10 and 10 × 8."""
    model = scrambled(Network(), LoraConfig(r=40, target_modules=TARGETS))
    report = export_lora(model, tmp_path / "out")
    assert report.rank == 10
    assert report.largest_difference <= 1e-6
    outputs = read_back(Network(), tmp_path / "out")(X)
    torch.testing.assert_close(outputs, model(X), rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers` to `True`")
@pytest.mark.parametrize("has_name", [True, False])
def test_a_resized_vocabulary_goes_along(has_name, tmp_path):
    """PEFT knows of it where it finds the base by its name; elsewhere it has to be said."""
    base = gpt2()
    if has_name:
        base.save_pretrained(tmp_path / "base")
        base = GPT2LMHeadModel.from_pretrained(tmp_path / "base")
    base.resize_token_embeddings(20, mean_resizing=False)
    model = scrambled(base, LoraXSConfig(r=4, target_modules=["c_attn"]))
    options = {} if has_name else {"save_embedding_layers": True}
    report = export_lora(model, tmp_path / "out", **options)
    assert "as the vocabulary was resized" in report.notes[-1]
    fresh = gpt2()
    fresh.resize_token_embeddings(20, mean_resizing=False)
    tokens = torch.arange(20)[4:].reshape(1, 16)
    loaded = read_back(fresh, tmp_path / "out")
    torch.testing.assert_close(loaded(tokens).logits, model(tokens).logits)


def test_a_rank_above_what_servers_take_is_warned_of(tmp_path):
    base = nn.Sequential(nn.Linear(600, 600))
    model = get_peft_model(base, LoraConfig(r=513, target_modules=["0"]))
    with pytest.warns(UserWarning, match="exported rank is 513, but vLLM serves up to 512") as told:
        report = export_lora(model, tmp_path / "out")
    assert told[0].filename == __file__
    assert report.rank == 513 > LARGEST_RANK


def adapted(base, config):
    return lambda: get_peft_model(base, config)


def open_chain():
    model = get_peft_model(Network(), LoraConfig(r=2, target_modules=TARGETS))
    model.peft_config["default"].peft_type = RankwisePeftType.RANKWISE_CHAIN
    return model


class Convolution(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 2, 3)


REFUSED = {
    "no PeftModel": (Network, ModelError, "takes the PeftModel that get_peft_model returns"),
    "open chain": (open_chain, ChainError, "the chain is still open"),
    "biases": (
        adapted(Network(), DeloraConfig(r=2, target_modules=TARGETS, bias="all")),
        ModelError,
        "made with bias='all', which a plain LoRA directory cannot hold",
    ),
    "dora": (
        adapted(Network(), LoraConfig(r=2, target_modules=TARGETS, use_dora=True)),
        ModelError,
        "DoraLinearVariant, whose change is not B A",
    ),
    "convolution": (
        adapted(Convolution(), LoraConfig(r=2, target_modules=["first"])),
        ModelError,
        "target linear layers only",
    ),
    "not low-rank": (
        adapted(Network(), peft.IA3Config(target_modules=TARGETS, feedforward_modules=[])),
        ModelError,
        "has no LoRA factors",
    ),
}


@pytest.mark.parametrize(("build", "error", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_lora_cannot_hold_is_refused(build, error, message, tmp_path):
    with pytest.raises(error, match=message):
        export_lora(build(), tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_an_unknown_adapter_is_refused(tmp_path):
    model = get_peft_model(Network(), LoraConfig(r=2, target_modules=TARGETS))
    with pytest.raises(ModelError, match="an adapter named 'missing'"):
        export_lora(model, tmp_path / "out", adapter_name="missing")
