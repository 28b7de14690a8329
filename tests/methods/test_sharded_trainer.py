"""Transformers' Trainer under Accelerate's FSDP2 on two processes: init, twenty steps, save, load.

Accelerate shards on accelerators alone: in two processes of a CPU it takes DDP without a word,
whatever FSDP is asked for. So it is told otherwise here, and the rest of its way and of the
Trainer's is what it is.
"""

from __future__ import annotations

import os

import pytest
import torch
from accelerate import state
from accelerate.utils import DistributedType
from peft import PeftModel, get_peft_model
from torch.distributed.tensor import DTensor
from torch.utils.data import SequentialSampler
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

from rankwise.export.lora import export_lora
from rankwise.methods.adapters.lora_xs import LoraXSConfig
from rankwise.methods.inits.initialize import initialize
from rankwise.methods.inits.update import UpdateApproximation
from tests.two_processes import run_in_two

STEPS, ROWS = 20, 4
FSDP2 = {
    "ACCELERATE_USE_CPU": "true",
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT",
}


class InOrder(Trainer):
    def _get_train_sampler(self, *_) -> SequentialSampler:
        return SequentialSampler(self.train_dataset)


def base():
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "vocab_size": 30}
    return LlamaForCausalLM(LlamaConfig(**sizes, num_hidden_layers=2, num_attention_heads=2))


def build(config):
    torch.manual_seed(1)
    return get_peft_model(base(), config(r=2, target_modules=["q_proj", "down_proj"]))


def rows():
    generator = torch.Generator().manual_seed(2)
    tokens = torch.randint(30, (STEPS * ROWS, 6), generator=generator)
    return [{"input_ids": row, "labels": row} for row in tokens]


def first_batch(ranks):
    tokens = torch.stack([row["input_ids"] for row in rows()[:ROWS]]).view(2, -1, 6)[ranks]
    return {"input_ids": tokens.reshape(-1, 6), "labels": tokens.reshape(-1, 6)}


def trainer_of(model, folder, *, batch, **options):
    arguments = TrainingArguments(
        str(folder),
        max_steps=STEPS,
        per_device_train_batch_size=batch,
        learning_rate=1e-2,
        lr_scheduler_type="constant",
        max_grad_norm=0.0,
        logging_steps=1,
        disable_tqdm=True,
        report_to=[],
        use_cpu=True,
        **options,
    )
    return InOrder(model=model, args=arguments, train_dataset=rows())


def losses_of(trainer):
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def shard_on_a_cpu(patch):
    """Let Accelerate take FSDP2, as it does for several accelerators."""
    for name, value in FSDP2.items():
        patch.setitem(os.environ, name, value)
    plain = state.AcceleratorState.__init__

    def told(self, *arguments, fsdp_plugin=None, **options):
        plain(self, *arguments, fsdp_plugin=fsdp_plugin, **options)
        if fsdp_plugin is not None:
            self.distributed_type, self.fsdp_plugin = DistributedType.FSDP, fsdp_plugin
            state.PartialState._shared_state["distributed_type"] = DistributedType.FSDP

    patch.setattr(state.AcceleratorState, "__init__", told)


def work_as_one_of_two(rank, folder):
    with pytest.MonkeyPatch.context() as patch:
        shard_on_a_cpu(patch)
        model = build(LoraXSConfig)
        initialize(model, UpdateApproximation(lr=0.1), [first_batch([rank])])
        options = {"batch": ROWS // 2, "save_strategy": "steps", "save_steps": STEPS}
        trainer = trainer_of(model, folder / "run", **options)
        trainer.train()
        assert all(isinstance(parameter, DTensor) for parameter in model.parameters())
        return losses_of(trainer)


@pytest.mark.processes
def test_a_sharded_trainer_ends_as_one_process_does(tmp_path):
    first, _ = run_in_two(work_as_one_of_two, tmp_path)

    model = build(LoraXSConfig)
    initialize(model, UpdateApproximation(lr=0.1), [first_batch([0, 1])])
    alone = trainer_of(model, tmp_path / "alone", batch=ROWS, save_strategy="no")
    alone.train()
    assert len(first) == STEPS
    assert first == pytest.approx(losses_of(alone), rel=1e-4)

    checkpoint = tmp_path / "run" / f"checkpoint-{STEPS}"
    loaded = PeftModel.from_pretrained(base(), checkpoint)
    tokens = first_batch([0, 1])["input_ids"]
    with torch.no_grad():
        expected = model.eval()(tokens).logits
        torch.testing.assert_close(loaded(tokens).logits, expected, rtol=1e-3, atol=1e-5)
        export_lora(loaded, tmp_path / "plain")
        plain = PeftModel.from_pretrained(base(), tmp_path / "plain")
        torch.testing.assert_close(plain(tokens).logits, expected, rtol=1e-3, atol=1e-5)
