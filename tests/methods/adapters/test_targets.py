"""Which layers are adapted, and what is said of those where an adapter would not act."""

from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import (
    Mamba2Config,
    Mamba2ForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
)

from rankwise.core.errors import ModelError
from rankwise.methods.adapters.bridge import adapted_layers
from rankwise.methods.adapters.lora_xs import LoraXSConfig
from rankwise.methods.inits.initialize import initialize
from rankwise.methods.inits.update import UpdateApproximation
from tests.models.adapters import OURS, config
from tests.models.networks import Network

ours = pytest.mark.parametrize("kind", OURS)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.out = nn.Linear(16, 4)

    def forward(self, x):
        return self.out(self.attention(x, x, x)[0])


@ours
def test_the_projection_that_attention_reads_is_refused(kind):
    with pytest.raises(ModelError, match=r"attention\.out_proj cannot be adapted.*never calls it"):
        get_peft_model(Attention(), config(kind, target_modules=["out_proj"]))


@ours
def test_all_linear_leaves_it_out(kind):
    with pytest.warns(UserWarning, match=r"leaves out attention\.out_proj \(torch\.nn\.Multihead"):
        model = get_peft_model(Attention(), config(kind, target_modules="all-linear"))
    assert model.peft_config["default"].target_modules == {"out"}


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("no_grad", [True, False])
@ours
def test_an_encoder_layer_computes_with_its_adapters_in_eval_mode_too(kind, no_grad):
    torch.manual_seed(0)
    encoder = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, dropout=0.0),
        num_layers=2,
        enable_nested_tensor=False,
    )
    x = torch.randn(3, 5, 16)
    model = get_peft_model(encoder, config(kind, target_modules=["linear1", "linear2"]))
    for parameter in model.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter)
    expected = model.train()(x).detach()
    model.eval()
    with torch.set_grad_enabled(not no_grad):
        torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-4)
        with model.disable_adapter():
            assert not torch.allclose(model(x), expected, atol=0.1)


class Gated(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.gate, self.head = nn.Linear(6, 6), nn.Linear(6, 1), nn.Linear(6, 3)

    def forward(self, x):
        return self.head(self.body(x) * self.gate(x))


def test_all_linear_leaves_out_what_is_narrower_than_the_rank():
    message = r"leaves out gate \(its smaller side is 1, less than r=4\), head \(.* is 3"
    with pytest.warns(UserWarning, match=message):
        model = get_peft_model(Gated(), config("lora_xs", target_modules="all-linear", r=4))
    assert model.peft_config["default"].target_modules == {"body"}
    pattern = {"gate": 1, "head": 2}
    options = {"target_modules": "all-linear", "r": 4, "rank_pattern": pattern}
    assert len(adapted_layers(get_peft_model(Gated(), config("lora_xs", **options)))) == 3
    assert len(adapted_layers(get_peft_model(Gated(), config("delora", **options)))) == 3


def test_a_rank_that_fits_no_layer_is_an_error():
    message = r"finds no layer to adapt: .*less than r=9.*; lower r to 6 or less$"
    with pytest.raises(ModelError, match=message):
        get_peft_model(Gated(), config("lora_xs", target_modules="all-linear", r=9))


@ours
def test_all_linear_says_how_much_of_a_mixture_of_experts_it_adapts(kind):
    mixture = MixtralForCausalLM(
        MixtralConfig(
            vocab_size=17, hidden_size=8, intermediate_size=12, num_hidden_layers=1,
            num_attention_heads=2, num_key_value_heads=1, num_local_experts=4,
        )
    )  # fmt: skip
    with pytest.warns(UserWarning, match=r"adapts 1\d% of the weights: .*experts\.gate_up_proj"):
        get_peft_model(mixture, config(kind, target_modules="all-linear", r=2))


@ours
def test_what_the_kernels_of_mamba_read_is_refused_and_left_out(kind):
    def mamba():
        return Mamba2ForCausalLM(
            Mamba2Config(
                vocab_size=17, hidden_size=16, num_hidden_layers=1, state_size=4, num_heads=4,
                head_dim=8, n_groups=1, chunk_size=4,
            )
        )  # fmt: skip

    with pytest.raises(ModelError, match=r"out_proj cannot be adapted, as the kernels of Mamba"):
        get_peft_model(mamba(), config(kind, target_modules=["out_proj"], r=2))
    with pytest.warns(UserWarning, match=r"leaves out \S+out_proj \(the kernels of Mamba read"):
        model = get_peft_model(mamba(), config(kind, target_modules="all-linear", r=2))
    assert all(name.endswith("in_proj") for name in adapted_layers(model))


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (nn.Embedding(9, 4), "is of type Embedding, .*looks up rows.*trainable_token_indices"),
        (nn.Conv2d(3, 4, 2), r"is of type Conv2d, .*convolution itself.*peft\.LoraConfig"),
        (nn.Conv1d(3, 4, 2), r"is of type Conv1d, .*convolution itself.*peft\.LoraConfig"),
        (nn.LSTM(3, 4), "is of type LSTM, .*name it in exclude_modules"),
    ],
)
@ours
def test_other_layers_are_refused_by_name_and_reason(kind, layer, message):
    with pytest.raises(ModelError, match=f"first {message}"):
        get_peft_model(nn.ModuleDict({"first": layer}), config(kind, target_modules=["first"]))


def with_weight(value):
    model = Network()
    with torch.no_grad():
        model.second.weight.fill_(value)
    return model


@pytest.mark.parametrize("value", [0.0, 1e-9])
@ours
def test_a_weight_that_can_never_move_is_named(kind, value):
    with pytest.warns(UserWarning, match="weights of second are zero or tiny.*stay as they are"):
        get_peft_model(with_weight(value), config(kind))


def test_a_random_start_and_one_with_zero_rows_move():
    get_peft_model(with_weight(0.0), config("lora_xs", init_weights=False))
    model = Network()
    with torch.no_grad():
        model.second.weight[2:] = 0.0
    get_peft_model(model, config("lora_xs"))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@ours
def test_a_weight_that_is_not_finite_is_named(kind, value):
    with pytest.raises(ModelError, match="second has a weight with values that are not finite"):
        get_peft_model(with_weight(value), config(kind))


@pytest.mark.filterwarnings("ignore:(You are trying to modify|Already found a `peft_config`)")
@ours
def test_a_peft_model_is_not_adapted_once_more(kind):
    for inner in (LoraConfig(r=2, target_modules=["first"]), config(kind)):
        model = get_peft_model(Network(), inner)
        with pytest.raises(ModelError, match=r"PEFT model already.*model\.add_adapter"):
            get_peft_model(model, config(kind), adapter_name="second")
        assert isinstance(model, PeftModel)


@ours
def test_a_float8_weight_is_adapted_and_not_merged(kind):
    base = Network()
    weight = base.first.weight
    base.first.weight = nn.Parameter(weight.to(torch.float8_e4m3fn), requires_grad=False)
    model = get_peft_model(base, config(kind, target_modules=["first"]))
    layer = model.base_model.model.first
    assert {part.dtype for part in layer.parts("default")} == {torch.float32}
    with pytest.raises(ModelError, match=r"first: the weight is quantised \(torch\.float8_e4m3fn"):
        model.merge_adapter()


@ours
def test_what_trains_in_full_beside_an_adapter_is_not_told_as_left_out(kind, recwarn):
    model = nn.Sequential(OrderedDict(body=nn.Linear(8, 8), head=nn.Linear(8, 2)))
    options = {"target_modules": "all-linear", "modules_to_save": ["head"]}
    adapted = get_peft_model(model, config(kind, r=4, **options))
    assert not [each for each in recwarn if "leaves out" in str(each.message)]
    assert adapted.peft_config["default"].target_modules == {"body"}


def test_a_weight_that_zero_3_has_emptied_is_refused_by_name():
    base = nn.Sequential(nn.Linear(8, 8))
    base[0].weight.data = torch.empty(0)
    with pytest.raises(ModelError, match=r"weight of 0 is empty, as DeepSpeed ZeRO-3"):
        get_peft_model(base, LoraXSConfig(r=2, target_modules=["0"]))
    model = get_peft_model(nn.Sequential(nn.Linear(8, 8)), LoraConfig(r=2, target_modules=["0"]))
    model.base_model.model[0].base_layer.weight.data = torch.empty(0)
    init = UpdateApproximation(lr=1e-3)
    with pytest.raises(ModelError, match=r"weight of \S+ is empty, as DeepSpeed ZeRO-3"):
        initialize(model, init, [torch.ones(2, 8)], loss=lambda model, x: model(x).sum())


class Reader(nn.Module):
    """It computes with a weight of its own accord, as WavLM's attention does."""

    def __init__(self):
        super().__init__()
        self.read, self.called = nn.Linear(6, 6), nn.Linear(6, 6)
        self.both = nn.Linear(6, 6)

    def forward(self, x):
        x = nn.functional.linear(x.to(self.called.weight.dtype), self.read.weight, self.read.bias)
        return self.both(self.called(x)) + nn.functional.linear(x, self.both.weight)


@ours
def test_a_layer_whose_weight_its_model_reads_is_named(kind):
    with pytest.warns(UserWarning, match=r"Reader reads its weight and never calls it \(read\)"):
        get_peft_model(Reader(), config(kind, r=2, target_modules=["read"]))
    with pytest.warns(UserWarning, match=r"leaves out read \(Reader reads its weight"):
        model = get_peft_model(Reader(), config(kind, r=2, target_modules="all-linear"))
    assert model.peft_config["default"].target_modules == {"called", "both"}


@pytest.mark.filterwarnings("error")
@ours
def test_one_that_is_called_too_is_not(kind):
    get_peft_model(Reader(), config(kind, r=2, target_modules=["called", "both"]))


class HandingOn(Reader):
    """As diffusers' attention: a part of it does the work, and calls what its owner has."""

    def __init__(self):
        super().__init__()
        self.processor = lambda owner, x: owner.read(x)

    def forward(self, x):
        return self.processor(self, x)


@pytest.mark.filterwarnings("error")
@ours
def test_nor_is_one_whose_owner_hands_itself_on(kind):
    model = get_peft_model(HandingOn(), config(kind, r=2, target_modules="all-linear"))
    assert model.peft_config["default"].target_modules == {"read", "called", "both"}


@ours
def test_what_mamba_and_its_kind_read_is_refused(kind):
    sizes = {"hidden_size": 16, "state_size": 4, "num_hidden_layers": 1, "vocab_size": 32}
    for target in ("dt_proj", "x_proj", "out_proj"):
        with pytest.raises(ModelError, match=rf"{target} cannot be adapted, as the kernels of"):
            get_peft_model(
                MambaForCausalLM(MambaConfig(**sizes)), config(kind, r=1, target_modules=[target])
            )
