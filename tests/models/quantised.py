"""A tiny Llama, loaded quantised in each way that is supported, and a batch for it."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile

import torch
from peft import PeftConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from torchao.quantization import Int8WeightOnlyConfig
from transformers import BitsAndBytesConfig, LlamaForCausalLM, TorchAoConfig

from tests.models.adapters import KINDS
from tests.models.architectures import llama

TARGETS = ["q_proj", "down_proj"]
QUANTISED = ("nf4", "int8", "torchao")


@functools.cache
def directory() -> str:
    """Save the Llama once; bitsandbytes wants sides that are multiples of its blocks of 64."""
    path = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, path)
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
    llama(**sizes, initializer_range=0.1).save_pretrained(path)
    return path


def quantisation(kind: str) -> object:
    match kind:
        case "nf4":
            return BitsAndBytesConfig(
                load_in_4bit=True,
                bnb_4bit_quant_type="nf4",
                bnb_4bit_compute_dtype=torch.float32,
                bnb_4bit_use_double_quant=True,
            )
        case "int8":
            return BitsAndBytesConfig(load_in_8bit=True)
        case _:
            return TorchAoConfig(Int8WeightOnlyConfig(version=2))


def base(kind: str) -> nn.Module:
    return LlamaForCausalLM.from_pretrained(
        directory(), quantization_config=quantisation(kind), dtype=torch.float32, device_map="cpu"
    )


def config(method: str, **options) -> PeftConfig:
    options = {"r": 4, "target_modules": TARGETS, **options}
    if method == "lora":
        options["lora_alpha"] = 8
    return KINDS[method](**options)


def attach(method: str, kind: str, **options) -> PeftModel:
    torch.manual_seed(1)
    return get_peft_model(base(kind), config(method, **options))


def batch(rows: int = 4) -> dict[str, Tensor]:
    tokens = torch.randint(3, 17, (rows, 8), generator=torch.Generator().manual_seed(2))
    return {"input_ids": tokens, "labels": tokens}


def logits(model: nn.Module) -> Tensor:
    with torch.no_grad():
        return model(**batch())["logits"]


def train(model: nn.Module, steps: int = 2) -> list[float]:
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.02)
    losses = []
    for _ in range(steps):
        loss = model(**batch())["loss"]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses
