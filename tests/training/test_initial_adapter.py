"""An initialised adapter lies on disk as it is in memory, and any trainer goes on from it."""

from __future__ import annotations

import pytest
import torch
from peft import PeftModel
from transformers import Trainer, TrainingArguments

from rankwise.cli.main import main
from rankwise.core.errors import AdapterError, SettingsError
from rankwise.tasks.digits import DigitsTask
from rankwise.training import initial_adapter
from rankwise.training.initial_adapter import write_initial_adapter
from rankwise.training.records import InitialAdapterRecord

pytestmark = pytest.mark.runs

STEPS, ROWS = 20, 16
FEW = {"init": {"steps": 3}}


@pytest.mark.parametrize(
    ("name", "method"),
    [("lora", {}), ("lora-sb", {}), ("delora", {}), ("abm-lora", FEW), ("abm-lora-task", FEW)],
)
def test_each_init_writes_an_adapter_that_peft_reads(settings, tmp_path, name, method):
    run = settings(name, method=method)
    write_initial_adapter(run, tmp_path / "start")
    record = InitialAdapterRecord.read(tmp_path / "start" / "rankwise_init.json")
    assert record.settings == run.model_dump(mode="json")
    assert (record.init is None) == (name in ("lora", "delora"))
    model = trainable(tmp_path / "start")
    assert any(parameter.requires_grad for parameter in model.parameters())
    card = (tmp_path / "start" / "README.md").read_text()
    assert ("import rankwise" in card) == (name in ("lora-sb", "delora"))
    assert {file.name for file in tmp_path.iterdir()} == {"start"}


def trainable(directory):
    base = DigitsTask(pretrain_epochs=2).base_model(directory / "base")
    return PeftModel.from_pretrained(base, str(directory), is_trainable=True)


def plain_losses(model, rows):
    optimizer = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], lr=1e-2, weight_decay=0.0
    )
    losses = []
    for step in range(STEPS):
        loss = model(**rows.take(slice(step * ROWS, (step + 1) * ROWS)))["loss"]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


class InOrder(Trainer):
    def _get_train_sampler(self, *_):
        return torch.utils.data.SequentialSampler(self.train_dataset)


def trainer_losses(model, rows, folder):
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=STEPS,
        per_device_train_batch_size=ROWS,
        learning_rate=1e-2,
        lr_scheduler_type="constant",
        max_grad_norm=0.0,
        logging_steps=1,
        save_strategy="no",
        remove_unused_columns=False,
        disable_tqdm=True,
        report_to=[],
        use_cpu=True,
    )
    singly = [{name: column[0] for name, column in row.items()} for row in rows.batches(1)]
    trainer = InOrder(model=model, args=arguments, train_dataset=singly)
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


@pytest.mark.parametrize("name", ["lora", "lora-sb", "delora"])
def test_a_plain_loop_and_a_trainer_have_the_same_losses(settings, tmp_path, name):
    directory = tmp_path / "start"
    write_initial_adapter(settings(name), directory)
    rows = DigitsTask(pretrain_epochs=2).splits().train
    plain = plain_losses(trainable(directory).train(), rows)
    hugging = trainer_losses(trainable(directory), rows, tmp_path / "trainer")
    assert len(plain) == len(hugging) == STEPS
    assert plain[-1] < plain[0]
    torch.testing.assert_close(hugging, plain, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "message"),
    [("full", "has no adapter"), ("rac-lora", "rankwise.ChainCallback"), ("cola", "'chain'")],
)
def test_what_has_no_start_of_its_own_is_refused(settings, tmp_path, name, message):
    with pytest.raises(SettingsError, match=message):
        write_initial_adapter(settings(name), tmp_path / "start")
    assert not list(tmp_path.iterdir())


def test_a_full_directory_is_refused(settings, tmp_path):
    (tmp_path / "start").mkdir()
    (tmp_path / "start" / "mine").write_text("keep")
    with pytest.raises(SettingsError, match="is not empty: choose a new directory"):
        write_initial_adapter(settings("lora"), tmp_path / "start")


def test_what_is_read_back_otherwise_leaves_nothing(settings, tmp_path, monkeypatch):
    monkeypatch.setattr(initial_adapter, "check_adapter_directory", lambda _: {})
    with pytest.raises(AdapterError, match="not what was written: nothing is kept"):
        write_initial_adapter(settings("lora"), tmp_path / "start")
    assert not list(tmp_path.iterdir())


def test_the_command_says_how_to_go_on(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["init", "digits", "--output", "start", "--task.pretrain_epochs", "1"]
    assert main(words) == 0
    assert "is_trainable=True" in capsys.readouterr().out
    assert main(words) == 2
    assert "is not empty: choose a new directory" in capsys.readouterr().err
