"""Preferences are learned as TRL's ``DPOTrainer`` learns them, by every method."""

from __future__ import annotations

import math

import datasets
import pytest
import torch
from torch.utils.data import SequentialSampler
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer

from rankwise.tasks.own.division import Cut
from rankwise.tasks.own.preference import Preference
from rankwise.tasks.own.source import Source
from rankwise.training.finished import FinishedRun
from rankwise.training.publishing import publish_lora
from rankwise.training.run import train_run
from rankwise.training.settings.recipe import load_recipe
from tests.models.saved import make_llama
from tests.tasks.own.own_files import write_jsonl

pytestmark = pytest.mark.runs

NOUNS = ["cat", "dog", "aunt", "tree", "river", "bird", "house", "hill"]
PAIRS = [
    {
        "prompt": f"what does the {noun} {verb}?",
        "chosen": f"the {noun} {verb}s well",
        "rejected": f"no {noun}",
    }
    for noun in NOUNS
    for verb in ("like", "see", "draw", "follow", "paint")
]
METHODS = ["lora", "lora-sb", "rac-lora", "delora", "abm-lora", "full"]


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    texts = [text for row in PAIRS for text in row.values()]
    return make_llama(tmp_path_factory.mktemp("llama") / "model", texts)


@pytest.fixture
def run_of(tmp_path, monkeypatch, llama):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    file = write_jsonl(tmp_path / "pairs.jsonl", PAIRS)

    def make(method="lora", **training):
        settings = {
            "task": {"model": llama},
            "method": {"name": method} if method == "full" else {"name": method, "r": 2},
            "training": {"epochs": 2, "batch_size": 8, "learning_rate": 1e-2, **training},
        }
        return load_recipe(file, settings).run()

    return make


class InOrder(DPOTrainer):
    def _get_train_sampler(self, *_) -> SequentialSampler:
        return SequentialSampler(self.train_dataset)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
def test_the_losses_are_those_of_trl(tmp_path, llama):
    # A blank ends the prompt: TRL puts none between it and what follows.
    pairs = [row | {"prompt": f"{row['prompt']} "} for row in PAIRS]
    task = Preference(Source(write_jsonl(tmp_path / "a.jsonl", pairs)), Cut(), llama, beta=0.3)
    rows, model = task.splits().train, task.base_model(tmp_path / "base")
    optimizer, ours, margins = torch.optim.SGD(model.parameters(), lr=0.5), [], []
    for batch in rows.batches(4):
        output = model(**batch)
        output["loss"].backward()
        ours.append(output["loss"].item())
        margins.append(output["logits"].mean().item())
        optimizer.step()
        optimizer.zero_grad()
    by_prompt = {row["prompt"].strip(): row for row in pairs}
    tokenizer = AutoTokenizer.from_pretrained(llama)
    tokenizer.backend_tokenizer.post_processor = None
    in_order = [
        by_prompt[tokenizer.decode(batch["input_ids"][0, 0][batch["targets"][0, 0] == -100])]
        for batch in rows.batches(1)
    ]
    trainer = InOrder(
        AutoModelForCausalLM.from_pretrained(llama),
        args=DPOConfig(
            str(tmp_path / "trl"),
            beta=0.3,
            num_train_epochs=1,
            per_device_train_batch_size=4,
            learning_rate=0.5,
            optim="sgd",
            lr_scheduler_type="constant",
            max_grad_norm=0.0,
            logging_steps=1,
            save_strategy="no",
            disable_tqdm=True,
            report_to=[],
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
        ),
        train_dataset=datasets.Dataset.from_list(in_order),
        processing_class=tokenizer,
    )
    trainer.train()
    log = [entry for entry in trainer.state.log_history if "loss" in entry]
    torch.testing.assert_close(ours, [entry["loss"] for entry in log], rtol=1e-4, atol=1e-4)
    theirs = [entry["rewards/margins"] for entry in log]
    torch.testing.assert_close(margins, theirs, rtol=1e-3, atol=1e-4)
    assert margins[-1] > 0.05


@pytest.mark.parametrize("method", METHODS)
def test_every_method_learns_what_is_preferred(run_of, tmp_path, method):
    record = train_run(run_of(method), tmp_path / "out")
    before, after = record.curve[0], record.curve[-1]
    assert record.metric == "reward_accuracy"
    # A margin of 0, where the adapter changes nothing yet; two of the inits begin beside it.
    nearness = 0.1 if method in ("lora-sb", "abm-lora") else 1e-4
    assert before.validation_loss == pytest.approx(math.log(2), abs=nearness)
    assert after.validation_loss < before.validation_loss
    test = FinishedRun.below(tmp_path / "out", record.run).score_test()
    assert test.scores["reward_margin"] > 0
    if method != "full":
        published = publish_lora(tmp_path / "out" / "runs" / record.run, tmp_path / "lora")
        assert published.largest_difference < 1e-4


def test_what_the_model_began_with_is_computed_once(run_of, tmp_path):
    for rate in (1e-2, 2e-2):
        train_run(run_of(learning_rate=rate), tmp_path / "out")
    assert len(list((tmp_path / "out").rglob("reference-*.json"))) == 1
