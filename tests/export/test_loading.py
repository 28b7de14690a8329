"""How an export is loaded again follows from the class of its base, and from what went along."""

from __future__ import annotations

import warnings

import pytest
import torch
from peft import AutoPeftModelForCausalLM, LoraConfig, get_peft_model
from torch import nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertForTokenClassification,
    GPT2Config,
    GPT2LMHeadModel,
    T5Config,
    T5ForConditionalGeneration,
    ViTConfig,
    ViTForImageClassification,
    WhisperConfig,
    WhisperForConditionalGeneration,
)

from rankwise.export.loading import adapter_code, merged_code, task_type_of
from rankwise.export.lora import export_lora
from rankwise.methods.adapters.directory import read_config
from tests.models.architectures import gpt2

CLASSES = {
    "SEQ_CLS": (BertForSequenceClassification, BertConfig),
    "TOKEN_CLS": (BertForTokenClassification, BertConfig),
    "SEQ_2_SEQ_LM": (T5ForConditionalGeneration, T5Config),
    "CAUSAL_LM": (GPT2LMHeadModel, GPT2Config),
}
WITHOUT = {
    "images": (ViTForImageClassification, ViTConfig),
    "speech": (WhisperForConditionalGeneration, WhisperConfig),
}


def built(kind, config, **options) -> nn.Module:
    with torch.device("meta"):
        return kind(config(**options))


@pytest.mark.parametrize("task_type", CLASSES)
def test_the_class_of_the_base_tells_the_task_type(task_type):
    base = built(*CLASSES[task_type])
    assert task_type_of(base, has_saved_modules=True) == task_type


@pytest.mark.parametrize("what", WITHOUT)
def test_peft_has_no_task_type_for_images_and_speech(what):
    assert task_type_of(built(*WITHOUT[what]), has_saved_modules=True) is None


def test_a_model_that_is_none_of_transformers_has_none():
    assert task_type_of(nn.Linear(2, 2), has_saved_modules=False) is None
    assert merged_code(nn.Linear(2, 2), dtype="float32") is None


def test_a_head_that_did_not_go_along_is_not_said_to_be_the_adapters():
    assert task_type_of(built(*CLASSES["SEQ_CLS"]), has_saved_modules=False) is None
    assert task_type_of(built(*CLASSES["CAUSAL_LM"]), has_saved_modules=False) == "CAUSAL_LM"


def test_a_model_of_images_is_loaded_by_its_base_with_as_many_classes():
    base = built(*WITHOUT["images"], num_labels=7)
    config = {"base_model_name_or_path": "owner/vit", "task_type": None}
    assert adapter_code(base, config, dtype="bfloat16") == (
        "from peft import PeftModel\n"
        "from transformers import AutoModelForImageClassification\n\n"
        'base = AutoModelForImageClassification.from_pretrained("owner/vit", dtype="bfloat16", '
        "num_labels=7, ignore_mismatched_sizes=True)\n"
        'model = PeftModel.from_pretrained(base, "DIRECTORY")'
    )


@pytest.mark.parametrize("name", [None, ""])
def test_a_base_that_no_name_loads_has_no_code(name):
    base = built(*CLASSES["CAUSAL_LM"])
    config = {"base_model_name_or_path": name, "task_type": "CAUSAL_LM"}
    assert adapter_code(base, config, dtype="float32") is None


@pytest.mark.parametrize(
    ("name", "place", "file"),
    [
        ("owner/model/file.gguf", '"owner/model"', "file.gguf"),
        ("owner/model/q4/file.gguf", '"owner/model"', "q4/file.gguf"),
        ("./models/a/file.gguf", '"./models/a"', "file.gguf"),
        ("file.gguf", '"."', "file.gguf"),
        ("package:llm/file.gguf", 'find_spec("llm").submodule_search_locations[0]', "file.gguf"),
        (
            "package:llm/q4/file.gguf",
            'find_spec("llm").submodule_search_locations[0] + "/q4"',
            "file.gguf",
        ),
    ],
)
def test_a_base_in_a_gguf_file_is_loaded_by_its_folder_and_its_name(name, place, file):
    base = built(*CLASSES["CAUSAL_LM"])
    config = {"base_model_name_or_path": name, "task_type": "CAUSAL_LM"}
    code = adapter_code(base, config, dtype="float32")
    compile(code, "card", "exec")
    assert ("from importlib.util import find_spec" in code) == name.startswith("package:")
    assert (
        f'base = AutoModelForCausalLM.from_pretrained({place}, gguf_file="{file}", dtype="float32"'
        ", quantization_config=GgufConfig(dequantize=True))\n"
        'model = PeftModel.from_pretrained(base, "DIRECTORY")'
    ) in code


def test_classes_with_names_go_along():
    names = {0: "dark", 1: 'a "light" one'}
    base = built(*WITHOUT["images"], id2label=names)
    config = {"base_model_name_or_path": "owner/vit", "task_type": None}
    code = adapter_code(base, config, dtype="float32")
    assert f"num_labels=2, ignore_mismatched_sizes=True, id2label={names})" in code


def test_an_exported_causal_model_is_loaded_by_the_auto_class_of_peft(tmp_path):
    base = gpt2()
    base.save_pretrained(tmp_path / "base")
    base.name_or_path = str(tmp_path / "base")
    model = get_peft_model(base, LoraConfig(target_modules=["c_attn"], fan_in_fan_out=True))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter)
    export_lora(model, tmp_path / "out")
    assert read_config(tmp_path / "out")["task_type"] == "CAUSAL_LM"
    loaded = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    tokens = torch.arange(6).reshape(1, 6)
    torch.testing.assert_close(loaded(tokens).logits, model.eval()(tokens).logits)


def test_an_export_does_not_warn_of_what_peft_asks_transformers_for(tmp_path):
    base = gpt2()
    model = get_peft_model(base, LoraConfig(target_modules=["c_attn"], fan_in_fan_out=True))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        export_lora(model, tmp_path / "out")
    assert not [each for each in told if each.category is FutureWarning]
