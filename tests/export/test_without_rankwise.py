"""What ``export_lora`` writes is read by PEFT and Transformers where Rankwise is not installed."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from peft import get_peft_model
from safetensors.torch import load_file, save_file

from rankwise.export.lora import export_lora
from rankwise.methods.adapters.delora import DeloraConfig
from tests.models.architectures import llama
from tests.models.more_families import base as family_base

READER = """
import sys

sys.modules["rankwise"] = None  # an import of it raises ImportError
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

for folder in sys.argv[1:]:
    tokens = load_file(f"{folder}/tokens.safetensors")["tokens"]
    base, lora = f"{folder}/base", f"{folder}/lora"
    by_peft = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), lora)
    by_transformers = AutoModelForCausalLM.from_pretrained(base)
    by_transformers.load_adapter(lora)
    with torch.no_grad():
        save_file(
            {"peft": by_peft(tokens).logits, "transformers": by_transformers(tokens).logits},
            f"{folder}/read.safetensors",
        )
"""


def wide_llama():
    return llama(hidden_size=16, initializer_range=0.3)


@pytest.mark.processes
@pytest.mark.filterwarnings("ignore:'all-linear' adapts 54% of the weights")
def test_the_outputs_are_the_same(tmp_path):
    models = {"plain": wide_llama(), "experts": family_base("qwen3_moe")}
    expected = {name: exported(base, tmp_path / name) for name, base in models.items()}
    subprocess.run([sys.executable, "-c", READER, *models], cwd=tmp_path, check=True)
    for name, logits in expected.items():
        for read in load_file(tmp_path / name / "read.safetensors").values():
            torch.testing.assert_close(read, logits, rtol=1e-4, atol=1e-5)


def exported(base, folder):
    """Write a model, an adapter as a plain LoRA and tokens, and return what they give."""
    base.save_pretrained(folder / "base")
    torch.manual_seed(0)  # an adapter of the same size whatever was drawn before
    model = get_peft_model(base, DeloraConfig(r=2, delora_lambda=3, target_modules="all-linear"))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter))
    export_lora(model, folder / "lora")
    tokens = torch.arange(16).reshape(2, 8)
    with torch.no_grad():
        logits = model(tokens).logits
        unadapted = model.get_base_model()
        with model.disable_adapter():
            assert (unadapted(tokens).logits - logits).abs().max() > 0.1
    save_file({"tokens": tokens}, folder / "tokens.safetensors")
    return logits
