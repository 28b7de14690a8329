"""Tiny models with adapters, batches for them, and what must be the same before and after."""

from __future__ import annotations

import torch
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
    ViTConfig,
    ViTForImageClassification,
)

from tests.capture.networks import VOCABULARY


class Network(nn.Module):
    """A plain classifier with two activations; returns its mean loss in a dictionary."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.first = nn.Linear(4, 8)
        self.second = nn.Linear(8, 8)
        self.head = nn.Linear(8, 3)
        self.dropout = nn.Dropout(dropout)
        self.relu, self.gelu = nn.ReLU(), nn.GELU()

    def forward(self, x: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        hidden = self.dropout(self.relu(self.first(x)))
        logits = self.head(self.dropout(self.gelu(self.second(hidden))))
        if labels is None:
            return {"logits": logits}
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


def network(dropout: float = 0.0, dtype: torch.dtype = torch.float64) -> Network:
    torch.manual_seed(0)
    return Network(dropout).to(dtype)


def adapted(
    base: nn.Module | None = None, config: PeftConfig | None = None, **options
) -> PeftModel:
    """Attach an adapter, by default a plain LoRA of rank 2, from a fixed seed."""
    torch.manual_seed(1)
    options = {"r": 2, "lora_alpha": 6, "target_modules": ["first", "second"], **options}
    return get_peft_model(base or network(), config or LoraConfig(**options))


def points(rows: int, seed: int = 2, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "x": torch.randn(rows, 4, generator=generator, dtype=torch.float64).to(dtype),
        "labels": torch.randint(3, (rows,), generator=generator),
    }


def sentences(rows: int, length: int = 6) -> dict[str, Tensor]:
    """Token sequences padded on the right."""
    generator = torch.Generator().manual_seed(3)
    tokens = torch.randint(1, VOCABULARY, (rows, length), generator=generator)
    lengths = torch.randint(3, length + 1, (rows, 1), generator=generator)
    mask = torch.arange(length) < lengths
    return {"input_ids": tokens * mask, "attention_mask": mask.long()}


def t5(feed_forward: str = "relu", encoder: int = 2, decoder: int = 3) -> nn.Module:
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=VOCABULARY,
        d_model=8,
        d_kv=4,
        d_ff=12,
        num_layers=encoder,
        num_decoder_layers=decoder,
        num_heads=2,
        feed_forward_proj=feed_forward,
        decoder_start_token_id=0,
    )
    return T5ForConditionalGeneration(config)


def llama() -> nn.Module:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=8,
        intermediate_size=12,
        num_hidden_layers=3,
        num_attention_heads=2,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config)


def bert() -> nn.Module:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=12,
        max_position_embeddings=16,
        num_labels=3,
    )
    return BertForSequenceClassification(config)


def vit() -> nn.Module:
    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=8,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=12,
        image_size=4,
        patch_size=2,
        num_channels=1,
    )
    return ViTForImageClassification(config)


def values(model: nn.Module) -> dict[str, Tensor]:
    """Copies of all parameters and buffers."""
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def is_of_adapter(name: str, adapter_name: str = "default") -> bool:
    return f".{adapter_name}" in name


def surroundings(model: nn.Module) -> dict[str, object]:
    """Everything that an initialization must leave as it was, the values of the adapter aside."""
    base = {name: value for name, value in values(model).items() if not is_of_adapter(name)}
    return {
        "names": list(model.state_dict()),
        "base": {name: (value.dtype, value.tolist()) for name, value in base.items()},
        "modes": [module.training for module in model.modules()],
        "gradients": [(p.requires_grad, None if p.grad is None else p.grad.tolist())
                      for p in model.parameters()],
        "hooks": [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()],
        "active": [(m.active_adapters, m.disable_adapters)
                   for m in model.modules() if hasattr(m, "disable_adapters")],
        "model": (model.active_adapters, sorted(model.peft_config)),
        "random": torch.get_rng_state().tolist(),
    }  # fmt: skip
