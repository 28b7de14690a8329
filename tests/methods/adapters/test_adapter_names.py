"""Names of adapters that PEFT would take for those of modules, and names of none."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from torch import nn

from rankwise.core.errors import ModelError
from rankwise.export.lora import export_lora
from rankwise.methods.adapters.adapter_names import adapter_names, check_adapter_names
from rankwise.methods.chain.chain import Chain
from rankwise.methods.inits.initialize import initialize
from rankwise.methods.inits.update import UpdateApproximation
from tests.models.adapters import OURS, TARGETS, attach, config, train
from tests.models.networks import Network

REFUSED = "beside others cannot be called 'second', as modules or parameters of the model are"


@pytest.fixture
def model():
    """A plain LoRA beside one that is called like a layer, which PEFT allows."""
    model = attach("lora", modules_to_save=["head"])
    model.add_adapter("second", LoraConfig(r=2, target_modules=["first"]))
    return model


def test_peft_leaves_a_layer_out_that_another_adapter_is_called_like(model):
    kept = {name.split(".")[2] for name in get_peft_model_state_dict(model)}
    assert kept == {"first", "head"}


@pytest.mark.parametrize("kind", OURS)
@pytest.mark.parametrize("name", ["second", "model", "base_model", "weight", "base_layer"])
def test_ours_cannot_be_called_like_a_module_beside_another(kind, name):
    model = attach(kind)
    with pytest.raises(ModelError, match=f"beside others cannot be called '{name}'"):
        model.add_adapter(name, config(kind))
    assert list(model.peft_config) == adapter_names(model) == ["default"]


@pytest.mark.parametrize("kind", OURS)
def test_alone_an_adapter_of_such_a_name_loses_nothing(kind, tmp_path):
    model = get_peft_model(Network(), config(kind), adapter_name="second")
    train(model)
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(Network(), tmp_path / "second", adapter_name="second")
    x = torch.ones(2, 12)
    torch.testing.assert_close(loaded(x), model(x))


@pytest.mark.parametrize("kind", OURS)
def test_nor_can_another_come_beside_one_that_is_called_so(kind):
    model = get_peft_model(Network(), config(kind), adapter_name="second")
    with pytest.raises(ModelError, match=REFUSED):
        model.add_adapter("other", config(kind))
    assert adapter_names(model) == ["second"]


@pytest.mark.filterwarnings("ignore:Adapter name '' should not be contained")
@pytest.mark.parametrize("name", ["a.b", "train", ""])
def test_none_can_be_called_so_that_pytorch_has_no_place_for_it(name):
    with pytest.raises(ModelError, match="which PyTorch takes for no module's name"):
        get_peft_model(Network(), config("lora_xs"), adapter_name=name)


@pytest.mark.parametrize("name", ["default", "second_task", "task-2", "sec", "10"])
@pytest.mark.parametrize("kind", OURS)
def test_other_names_are_taken_also_beside_one_another(kind, name):
    model = get_peft_model(Network(), config(kind), adapter_name=name)
    model.add_adapter("other", config(kind))
    assert adapter_names(model) == sorted([name, "other"])
    check_adapter_names(model, [name, "other"])


def test_the_parts_of_an_adapted_layer_are_names_as_well():
    for name in ("lora_A", "lora_dropout", "original_module"):
        with pytest.raises(ModelError, match=f"'{name}'"):
            check_adapter_names(attach("lora", modules_to_save=["head"]), ["default", name])


def test_no_chain_is_made_and_no_start_computed_beside_such_a_name(model):
    with pytest.raises(ModelError, match=REFUSED):
        Chain(model)
    with pytest.raises(ModelError, match=REFUSED):
        initialize(model, UpdateApproximation(lr=1e-3), [torch.ones(1, 12)], loss=lambda m, x: m(x))
    assert model.peft_config["default"].peft_type == "LORA"


def test_an_export_is_the_way_out_for_the_adapter_itself_and_refused_for_the_others(
    model, tmp_path
):
    with pytest.raises(ModelError, match=REFUSED):
        export_lora(model, tmp_path / "other")
    model.set_adapter("second")
    nn.init.ones_(model.base_model.model.first.lora_B["second"].weight)
    export_lora(model, tmp_path / "out", adapter_name="second")
    loaded = PeftModel.from_pretrained(Network(), tmp_path / "out", adapter_name="freed")
    x = torch.ones(2, 12)
    torch.testing.assert_close(loaded(x), model(x))


def test_one_that_is_not_there_is_refused_with_those_that_are():
    model = get_peft_model(Network(), LoraConfig(r=2, target_modules=TARGETS), adapter_name="task")
    with pytest.raises(ModelError, match=r"an adapter named 'default': there is 'task'; pass adap"):
        Chain(model)
