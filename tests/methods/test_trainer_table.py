"""Which trainer takes which adapter over which base: the table of docs/guides/train-anywhere.md.

Every cell of it is a run here. ``RANKWISE_WRITE_TABLE=1`` writes the table into the guide.
"""

from __future__ import annotations

import functools
import itertools
import os
from pathlib import Path

import pytest
import torch
import trl
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from transformers import LlamaForCausalLM

from rankwise.methods.adapters.delora import DeloraConfig
from rankwise.methods.adapters.lora_xs import LoraXSConfig
from rankwise.methods.adapters.quantised import keep_differentiable
from rankwise.methods.chain.callback import ChainCallback
from rankwise.methods.inits.initialize import initialize
from rankwise.methods.inits.update import UpdateApproximation
from tests.models.language import batches, language_model, sft_trainer_of, trainer_of
from tests.models.quantised import quantisation
from tests.models.trl_trainers import dpo, grpo, kto

# What TRL and Transformers warn of, whatever the model.
pytestmark = [
    pytest.mark.runs,
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning"),
]

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "train-anywhere.md"
BEGIN, END = "<!-- table: begin -->\n", "<!-- table: end -->\n"
TARGETS = ["q_proj", "down_proj"]
STEPS = 3

TRAINERS = {
    "Trainer": lambda model, folder, callbacks: trainer_of(
        model, folder, callbacks=callbacks, max_steps=STEPS
    ),
    "SFTTrainer": lambda model, folder, callbacks: sft_trainer_of(
        model, folder, callbacks=callbacks, max_steps=STEPS
    ),
    "DPOTrainer": functools.partial(dpo, steps=STEPS),
    "GRPOTrainer": functools.partial(grpo, steps=STEPS),
    "KTOTrainer": functools.partial(kto, steps=STEPS),
}
HAVE_A_REFERENCE = ("DPOTrainer", "GRPOTrainer", "KTOTrainer")
BASES = ("float32", "bfloat16", "4-bit (nf4)")
ADAPTERS = {
    "LoRA-XS": LoraXSConfig,
    "LoRA-SB": LoraXSConfig,
    "DeLoRA": DeloraConfig,
    "chain of LoRA": LoraConfig,
}


@functools.cache
def saved(folder: Path) -> Path:
    language_model(hidden_size=64, intermediate_size=128).save_pretrained(folder)
    return folder


def base(kind: str, folder: Path) -> nn.Module:
    if kind == "4-bit (nf4)":
        quantised = LlamaForCausalLM.from_pretrained(
            saved(folder), quantization_config=quantisation("nf4"), device_map="cpu"
        )
        # Which is asked for its logits before a chain is made of its adapter.
        keep_differentiable(quantised)
        return quantised
    return language_model().to(torch.bfloat16 if kind == "bfloat16" else torch.float32)


def adapted(adapter: str, model: nn.Module) -> PeftModel:
    torch.manual_seed(1)
    model = get_peft_model(model, ADAPTERS[adapter](r=4, target_modules=TARGETS))
    if adapter == "LoRA-SB":
        initialize(model, UpdateApproximation(lr=1e-2), batches()[:2])
    return model


@torch.no_grad()
def logits(model: nn.Module, adapter_name: str) -> Tensor:
    model.set_adapter(adapter_name)
    found = model.eval()(**batches()[0])["logits"]
    model.set_adapter("default")
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("base")


@pytest.mark.parametrize(
    ("trainer", "kind", "adapter"), list(itertools.product(TRAINERS, BASES, ADAPTERS))
)
def test_it_trains_and_its_reference_is_where_it_began(trainer, kind, adapter, folder, tmp_path):
    model = adapted(adapter, base(kind, folder))
    is_chain = adapter.startswith("chain")
    start = logits(model, "default")
    callback = ChainCallback(model, every=2) if is_chain else None
    made = TRAINERS[trainer](model, tmp_path, [callback] if callback else [])
    if trainer in HAVE_A_REFERENCE:
        if "ref" not in model.peft_config:
            pytest.skip(f"{trainer} of TRL {trl.__version__} copies no adapter")
        assert torch.equal(logits(model, "ref"), start)
    model.train()
    made.train()
    now = logits(model, "default")
    assert now.isfinite().all()
    assert not torch.equal(now, start)
    if trainer in HAVE_A_REFERENCE and not is_chain:
        assert torch.equal(logits(model, "ref"), start)
    if callback is not None:
        assert callback.report.blocks == 2


def table() -> str:
    """Return the rows that the test above proves."""
    head = ["", *(f"{adapter}" for adapter in ADAPTERS)]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for trainer, kind in itertools.product(TRAINERS, BASES):
        cell = "yes, reference exact" if trainer in HAVE_A_REFERENCE else "yes"
        lines.append("| " + " | ".join([f"`{trainer}`, {kind}", *[cell] * len(ADAPTERS)]) + " |")
    return "\n".join(lines) + "\n"


def test_the_guide_has_this_table():
    text = GUIDE.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    expected = before + BEGIN + table() + END + after
    if os.environ.get("RANKWISE_WRITE_TABLE"):
        GUIDE.write_text(expected, encoding="utf-8")
    assert text == expected, "write it anew: RANKWISE_WRITE_TABLE=1 python -m pytest, this file"
