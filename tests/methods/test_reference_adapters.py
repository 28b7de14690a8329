"""TRL's trainers of preferences: their reference is a copy of the adapter as they got it.

TRL adds an adapter "ref" and copies each parameter whose name contains ``.default.``.
"""

from __future__ import annotations

import pytest
import torch
import trl
from datasets import Dataset
from peft import get_peft_model
from trl import (
    DPOConfig,
    DPOTrainer,
    GRPOConfig,
    GRPOTrainer,
    KTOConfig,
    KTOTrainer,
    RLOOConfig,
    RLOOTrainer,
)

from rankwise.methods.adapters.delora import DeloraConfig
from rankwise.methods.adapters.lora_xs import LoraXSConfig
from rankwise.methods.adapters.switching import active_adapter
from rankwise.methods.inits.initialize import initialize
from rankwise.methods.inits.update import UpdateApproximation
from tests.models.language import batches, language_model, options, tokenizer

TARGETS = ["q_proj", "v_proj", "down_proj"]
PROMPTS = ["the cat sees", "a dog likes", "my aunt draws", "the old man follows"]


def lora_sb():
    model = get_peft_model(language_model(), LoraXSConfig(r=4, target_modules=TARGETS))
    initialize(model, UpdateApproximation(lr=0.1), batches()[:2])
    return model


def trained_delora():
    model = get_peft_model(language_model(), DeloraConfig(r=4, target_modules=TARGETS))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1)
    for batch in batches()[:3]:
        model(**batch)["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
    return model


def preferences():
    return Dataset.from_dict(
        {
            "prompt": PROMPTS,
            "chosen": [" a tree"] * len(PROMPTS),
            "rejected": [" the river"] * len(PROMPTS),
        }
    )


def judgements():
    labels = [True, False] * (len(PROMPTS) // 2)
    completions = [" a tree"] * len(PROMPTS)
    return Dataset.from_dict({"prompt": PROMPTS, "completion": completions, "label": labels})


def lengths(completions, **_):
    return [float(len(each)) for each in completions]


def arguments(folder, **changed):
    return options(folder, max_steps=1, gradient_checkpointing=None, **changed)


def dpo(model, folder):
    config = DPOConfig(**arguments(folder))
    return DPOTrainer(model, args=config, train_dataset=preferences(), processing_class=tokenizer())


def kto(model, folder):
    config = KTOConfig(**arguments(folder))
    return KTOTrainer(model, args=config, train_dataset=judgements(), processing_class=tokenizer())


def online(trainer, config):
    def make(model, folder):
        changed = {"num_generations": 2, "max_completion_length": 3, "beta": 0.1}
        return trainer(
            model,
            reward_funcs=lengths,
            args=config(**arguments(folder, **changed)),
            train_dataset=Dataset.from_dict({"prompt": PROMPTS}),
            processing_class=tokenizer(),
        )

    return make


TRAINERS = {
    "dpo": dpo,
    "kto": kto,
    "grpo": online(GRPOTrainer, GRPOConfig),
    "rloo": online(RLOOTrainer, RLOOConfig),
}
CASES = [
    ("dpo", lora_sb),
    ("dpo", trained_delora),
    ("kto", lora_sb),
    ("grpo", trained_delora),
    ("rloo", lora_sb),
]


@torch.no_grad()
def logits(model, adapter_name):
    with active_adapter(model, adapter_name):
        return model.eval()(**batches()[0])["logits"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("trainer", "start"), CASES)
def test_the_policy_starts_at_its_reference_and_leaves_it(trainer, start, tmp_path):
    made = TRAINERS[trainer](start(), tmp_path)
    model = made.model
    if "ref" not in model.peft_config:
        pytest.skip(f"the {trainer.upper()} trainer of TRL {trl.__version__} copies no adapter")
    reference = logits(model, "ref")
    torch.testing.assert_close(logits(model, "default"), reference, rtol=0, atol=0)
    assert not torch.allclose(logits(model, None), reference, atol=1e-2)
    made.train()
    torch.testing.assert_close(logits(model, "ref"), reference, rtol=0, atol=0)
    assert not torch.equal(logits(model, "default"), reference)
