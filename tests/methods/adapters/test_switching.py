import contextlib

import pytest
import torch
from peft import LoraConfig
from safetensors.torch import load_file, save_file

from rankwise.core.errors import AdapterError, ModelError
from rankwise.methods.adapters.switching import (
    active_adapter,
    has_adapter,
    loaded_adapter,
    with_adapter,
)
from tests.models.adapters import attach, inputs, tensors, train
from tests.models.networks import Network


@pytest.fixture
def model():
    """Two trained adapters, of which the second is active."""
    model = attach("lora")
    train(model)
    model.add_adapter("other", LoraConfig(r=2, target_modules=["first"]))
    model.set_adapter("other")
    train(model)
    return model


def outputs_of(model, adapter_name):
    model.set_adapter(adapter_name)
    outputs = model(inputs())
    model.set_adapter("other")
    return outputs


def test_the_named_adapter_alone_acts(model):
    expected = outputs_of(model, "default")
    with active_adapter(model, "default"):
        assert torch.equal(model(inputs()), expected)


def test_no_adapter_acts(model):
    with active_adapter(model, None):
        assert torch.equal(model(inputs()), Network()(inputs()))


def test_what_acted_and_what_trains_is_as_before_also_after_an_error(model):
    expected = model(inputs())
    trainable = [parameter.requires_grad for parameter in model.parameters()]
    for adapter_name in ("default", None):
        with contextlib.suppress(KeyError), active_adapter(model, adapter_name):
            assert [parameter.requires_grad for parameter in model.parameters()] == trainable
            raise KeyError
        assert torch.equal(model(inputs()), expected)


def test_a_merged_layer_is_refused(model):
    model.merge_adapter()
    with pytest.raises(ModelError, match="first has merged adapters"), active_adapter(model, None):
        pass
    assert not model.base_model.model.first.disable_adapters


def test_one_that_is_not_there_is_refused_and_no_base_runs_in_its_place(model):
    expected = model(inputs())
    with (
        pytest.raises(ModelError, match="named 'misspelt': there is 'default', 'other'"),
        active_adapter(model, "misspelt"),
    ):
        pass
    assert torch.equal(model(inputs()), expected)


def test_an_adapter_is_known_by_its_layers(model):
    assert has_adapter(model, "other")
    assert not has_adapter(model, "another")


def test_a_loaded_adapter_is_there_for_a_moment_under_a_free_name(model, tmp_path):
    model.save_pretrained(tmp_path, selected_adapters=["default"])
    model.add_adapter("lent", LoraConfig(r=2, target_modules=["second"]))
    model.set_adapter("other")
    expected, before = outputs_of(model, "default"), tensors(model)
    with loaded_adapter(model, tmp_path) as name:
        assert name not in ("default", "other", "lent")
        with active_adapter(model, name):
            assert torch.equal(model(inputs()), expected)
    assert tensors(model).keys() == before.keys()
    assert sorted(model.peft_config) == ["default", "lent", "other"]
    assert model.active_adapter == "other"


def test_a_bare_module_cannot_be_lent_an_adapter(tmp_path):
    with pytest.raises(ModelError, match=r"to a peft.PeftModel, got Network"):
        loaded_adapter(Network(), tmp_path).__enter__()


def test_a_base_is_given_the_adapter_of_a_directory(model, tmp_path):
    model.save_pretrained(tmp_path, selected_adapters=["default"])
    expected = outputs_of(model, "default")
    assert torch.equal(with_adapter(Network(), tmp_path)(inputs()), expected)


def other_names(path):
    """Let the adapter's tensors be of a layer that the config does not name."""
    tensors = load_file(path)
    save_file({name.replace("first", "second"): each for name, each in tensors.items()}, path)


def other_shapes(path):
    tensors = load_file(path)
    save_file({name: each.repeat(2, 2) for name, each in tensors.items()}, path)


@pytest.mark.parametrize("damage", [other_names, other_shapes])
def test_an_adapter_of_another_base_is_refused_and_not_taken_in_part(tmp_path, damage):
    attach("lora", target_modules=["first"]).save_pretrained(tmp_path)
    damage(tmp_path / "adapter_model.safetensors")
    with pytest.raises(AdapterError, match="does not fit the base model"):
        with_adapter(Network(), tmp_path)
