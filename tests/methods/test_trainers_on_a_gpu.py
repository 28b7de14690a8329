"""Each method in a Trainer on a GPU, in each precision: it trains, and what it exports is it."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    RobertaConfig,
    RobertaForSequenceClassification,
    T5Config,
    T5ForConditionalGeneration,
    Trainer,
    TrainingArguments,
)

from rankwise.export.lora import export_lora
from rankwise.methods.adapters.delora import DeloraConfig
from rankwise.methods.adapters.fused import fuse
from rankwise.methods.adapters.lora_xs import LoraXSConfig
from rankwise.methods.chain.callback import ChainCallback
from rankwise.methods.inits.boundary import BoundaryMatching
from rankwise.methods.inits.initialize import initialize
from rankwise.methods.inits.update import UpdateApproximation

pytestmark = pytest.mark.cuda

SIZES = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
MODELS = {
    "llama": lambda: LlamaForCausalLM(
        LlamaConfig(**SIZES, intermediate_size=64, num_key_value_heads=2)
    ),
    "classifier": lambda: RobertaForSequenceClassification(
        RobertaConfig(**SIZES, intermediate_size=64, max_position_embeddings=40, num_labels=3)
    ),
    # Its weights are large, as small ones make of any labels the same loss in half precision.
    "t5": lambda: T5ForConditionalGeneration(
        T5Config(vocab_size=50, d_model=32, d_kv=8, d_ff=64, num_layers=2, initializer_factor=1.5)
    ),
}
TARGETS = {"llama": ["q_proj", "down_proj"], "classifier": ["query", "value"], "t5": ["q", "wo"]}
TASKS = {"llama": "CAUSAL_LM", "classifier": "SEQ_CLS", "t5": "SEQ_2_SEQ_LM"}

UPDATE, RAW = (UpdateApproximation(lr=1e-3, mode=mode) for mode in ("sign", "raw"))
METHODS = {  # the adapter and where it starts
    "lora": (LoraConfig, None),
    "fused": (LoraConfig, None),
    "chain": (LoraConfig, None),
    "update": (LoraConfig, UPDATE),
    "raw update": (LoraConfig, RAW),
    "boundary": (LoraConfig, BoundaryMatching(margin=0.5, steps=3)),
    "lora_xs": (LoraXSConfig, UPDATE),
    "delora": (DeloraConfig, UPDATE),
}
AUTOCAST = {"bf16": True}
PRECISIONS = {  # the weights' dtype, and what the Trainer is told
    "float32": (torch.float32, {}),
    "bfloat16 autocast": (torch.float32, AUTOCAST),
    "float16 autocast": (torch.float32, {"fp16": True}),
    "bfloat16 weights": (torch.bfloat16, {}),
    "checkpointing": (torch.float32, {**AUTOCAST, "gradient_checkpointing": True}),
}


def examples(kind):
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(2, 50, (16, 8), generator=generator)
    labels = tokens[:, 0] % 3 if kind == "classifier" else tokens
    mask = torch.ones_like(tokens)
    mask[::3, 5:] = 0
    rows = zip(tokens, mask, labels, strict=True)
    return [dict(zip(("input_ids", "attention_mask", "labels"), row, strict=True)) for row in rows]


def collate(rows):
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


def base(kind, dtype):
    torch.manual_seed(0)
    model = MODELS[kind]().to("cuda", dtype)
    model.config.decoder_start_token_id = 0
    return model


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", MODELS)
def test_a_method_trains_in_a_trainer_and_is_exported_as_it_is(kind, method, precision, tmp_path):
    dtype, options = PRECISIONS[precision]
    config, init = METHODS[method]
    rows = examples(kind)
    model = get_peft_model(
        base(kind, dtype), config(r=4, target_modules=TARGETS[kind], task_type=TASKS[kind])
    )
    if init is not None:
        context = torch.autocast("cuda", torch.bfloat16) if options == AUTOCAST else nullcontext()
        with context:
            initialize(model, init, [collate(rows[:8]), collate(rows[8:])])
    if method == "fused":
        fuse(model)
    arguments = TrainingArguments(
        str(tmp_path / "trained"),
        per_device_train_batch_size=4,
        max_steps=4,
        learning_rate=1e-3,
        logging_steps=1,
        save_steps=3,
        report_to=[],
        disable_tqdm=True,
        **options,
    )
    chain = [ChainCallback(model, every=2, side="left")] if method == "chain" else []
    trainer = Trainer(model, arguments, train_dataset=rows, data_collator=collate, callbacks=chain)
    trainer.train()
    losses = torch.tensor([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
    assert len(losses) == 4
    assert losses.isfinite().all()

    trainer.accelerator.unwrap_model(model, keep_fp32_wrapper=False)
    export_lora(model, tmp_path / "exported")
    again = PeftModel.from_pretrained(base(kind, dtype), tmp_path / "exported").eval()
    batch = {name: values.to("cuda") for name, values in collate(rows[:8]).items()}
    with torch.no_grad():
        expected, found = model.eval()(**batch).logits, again(**batch).logits
    close = 3e-2 if dtype == torch.bfloat16 else 2e-3
    assert (found - expected).norm() <= close * expected.norm()
