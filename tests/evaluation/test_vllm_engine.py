"""What is asked of vLLM, against a stand-in of the interface that it documents."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import ClassVar

import pytest
from peft import LoraConfig

from rankwise.core.errors import AdapterError, SettingsError
from rankwise.evaluation.generation import Completion, Decoding, TextGenerator
from rankwise.evaluation.vllm_engine import VllmEngine
from tests.models.saved import make_tokenizer
from tests.tasks.generation.generation_files import WORDS

SAMPLED = Decoding(8, temperature=0.1, top_p=0.75, top_k=40, seed=3)


class LLM:
    """Takes what vLLM's ``LLM`` and ``LLM.generate`` take, and answers as it is told."""

    made: ClassVar[list] = []
    asked: ClassVar[list] = []
    answers: ClassVar[list] = []

    def __init__(self, model, *, dtype, enable_lora, max_lora_rank):
        LLM.made.append((model, dtype, enable_lora, max_lora_rank))

    def generate(self, prompts, sampling_params, *, lora_request, use_tqdm):
        LLM.asked.append((prompts, sampling_params, lora_request))
        return [SimpleNamespace(outputs=[LLM.answers.pop(0)]) for _ in prompts]


@dataclass
class SamplingParams:
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None
    max_tokens: int | None = 16
    stop: list[str] | None = None
    include_stop_str_in_output: bool = False


@dataclass
class LoRARequest:
    lora_name: str
    lora_int_id: int
    lora_path: str


@pytest.fixture
def vllm(monkeypatch):
    modules = {name: ModuleType(name) for name in ("vllm", "vllm.lora", "vllm.lora.request")}
    modules["vllm"].LLM, modules["vllm"].SamplingParams = LLM, SamplingParams
    modules["vllm.lora.request"].LoRARequest = LoRARequest
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    for noted in (LLM.made, LLM.asked, LLM.answers):
        noted.clear()
    return LLM


@pytest.fixture
def adapter(tmp_path):
    def write(**changes):
        folder = tmp_path / "lora"
        LoraConfig(r=24, lora_alpha=24, target_modules=["q_proj"]).save_pretrained(str(folder))
        file = folder / "adapter_config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))
        return folder

    return write


@pytest.fixture
def tokenizer():
    return make_tokenizer(WORDS)


def answer(tokenizer, text, reason):
    tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
    return SimpleNamespace(token_ids=tuple(tokens), finish_reason=reason)


def test_the_base_is_loaded_with_the_rank_that_the_adapter_needs(vllm, adapter):
    engine = VllmEngine.open("org/base", adapter(), end=2, dtype="bfloat16")
    assert vllm.made == [("org/base", "bfloat16", True, 32)]
    assert engine.adapter == LoRARequest("rankwise", 1, str(adapter()))


def test_completions_are_those_of_any_engine(vllm, adapter, tokenizer, tmp_path):
    end = tokenizer.eos_token_id
    engine = VllmEngine.open("base", adapter(), end=end)
    vllm.answers += [
        answer(tokenizer, "true", "stop"),
        answer(tokenizer, "the request the", "length"),
        answer(tokenizer, "false ### Instruction: true", "stop"),
    ]
    generator = TextGenerator(engine, tokenizer, batch_size=3)
    prompts = [[4, 5, 6], [4, 5], [4]]
    decoding = Decoding(8, stop_words=("###",))
    found = generator.complete(prompts, decoding, tmp_path / "texts.jsonl")
    assert [each.is_truncated for each in found] == [False, True, False]
    assert found[0] == Completion("true", is_truncated=False)
    assert found[2].text.strip() == "false"
    ((asked, sampling, request),) = vllm.asked
    assert asked == [{"prompt_token_ids": prompt} for prompt in prompts]
    assert sampling == SamplingParams(
        temperature=0.0, max_tokens=8, stop=["###"], include_stop_str_in_output=True
    )
    assert request is engine.adapter


def test_sampling_has_its_own_seed_for_each_batch(vllm, adapter, tokenizer, tmp_path):
    engine = VllmEngine.open("base", adapter(), end=2)
    vllm.answers += [answer(tokenizer, "true", "stop")] * 2
    generator = TextGenerator(engine, tokenizer, batch_size=1)
    generator.complete([[4], [5]], SAMPLED, tmp_path / "texts.jsonl")
    first, second = (sampling for _, sampling, _ in vllm.asked)
    assert (first.temperature, first.top_p, first.top_k) == (0.1, 0.75, 40)
    assert 0 <= first.seed < 2**31
    assert first.seed != second.seed


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"r": 513}, "has rank 513, and vLLM takes up to 512"),
        ({"modules_to_save": ["head"]}, r"has modules_to_save \['head'\], which vLLM does not"),
        ({"peft_type": "RANKWISE_XS"}, "is of type RANKWISE_XS, and vLLM takes a plain LoRA"),
    ],
)
def test_what_vllm_does_not_take_is_refused_before_it_loads(vllm, adapter, changes, message):
    with pytest.raises(AdapterError, match=message):
        VllmEngine.open("base", adapter(**changes), end=2)
    assert vllm.made == []


def test_a_missing_vllm_is_named(monkeypatch, adapter):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(SettingsError, match=r"pip install 'rankwise\[vllm\]'"):
        VllmEngine.open("base", adapter(), end=2)
