"""A run goes on from a saved adapter: its first loss is the other run's last."""

from __future__ import annotations

import json

import pytest
from peft import LoraConfig, get_peft_model

from rankwise.core.errors import AdapterError, SettingsError
from rankwise.training.build import build_task
from rankwise.training.continuing import continued_method
from rankwise.training.folder import RunFolder
from rankwise.training.run import train_run
from rankwise.training.settings.recipe import load_recipe

pytestmark = pytest.mark.runs


@pytest.fixture
def digits_of(tmp_path):
    def make(method):
        task = {"pretrain_epochs": 1}
        training = {"epochs": 1, "batch_size": 128, "learning_rate": 3e-3}
        return load_recipe("digits", {"task": task, "training": training, "method": method}).run()

    return make


@pytest.mark.parametrize("name", ["lora", "lora-sb", "delora", "abm-lora"])
def test_the_first_loss_is_the_last_of_the_run_before(digits_of, tmp_path, name):
    init = {"init": {"steps": 2, "last": 2}} if name == "abm-lora" else {}
    run = digits_of({"name": name, "r": 3, **init})
    before = train_run(run, tmp_path)
    method = continued_method(RunFolder.below(tmp_path, run.name).path)
    after = train_run(digits_of(method), tmp_path)
    assert after.curve[0].validation_loss == pytest.approx(
        before.curve[-1].validation_loss, rel=1e-6
    )
    assert after.trainable_parameters == before.trainable_parameters
    assert after.curve[-1].validation_loss != after.curve[0].validation_loss


def test_a_plain_lora_from_anywhere_goes_on(digits_of, tmp_path):
    run = digits_of({"name": "lora", "r": 2})
    base = build_task(run).base_model(tmp_path / "base")
    config = LoraConfig(r=2, lora_alpha=6, target_modules=["layers.0", "layers.2"])
    get_peft_model(base, config).save_pretrained(tmp_path / "plain")
    method = continued_method(tmp_path / "plain")
    assert method["adapter"] == {
        "kind": "lora",
        "target_modules": ["layers.0", "layers.2"],
        "rank_pattern": {},
        "alpha": 6,
    }
    assert train_run(digits_of(method), tmp_path / "out").method.r == 2


def test_a_finished_chain_goes_on_as_the_lora_that_it_was_made(digits_of, tmp_path):
    run = digits_of({"name": "rac-lora", "r": 2, "schedule": {"every_epochs": 1}})
    before = train_run(run, tmp_path)
    method = continued_method(RunFolder.below(tmp_path, run.name).path)
    assert method["name"] == "lora"
    after = train_run(digits_of(method), tmp_path)
    assert after.curve[0].validation_loss == pytest.approx(
        before.curve[-1].validation_loss, rel=1e-5
    )


def test_an_open_chain_is_to_be_made_one_adapter_before(tmp_path):
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 2}')
    (tmp_path / "rankwise_chain.safetensors").touch()
    with pytest.raises(SettingsError, match=r"holds a chain of adapters, .* by rankwise export"):
        continued_method(tmp_path)


@pytest.mark.parametrize(
    ("config", "error", "message"),
    [
        ({"peft_type": "IA3"}, SettingsError, "no run goes on from an adapter of type IA3"),
        (
            {"peft_type": "LORA", "use_dora": True},
            SettingsError,
            "its config has use_dora, for which there is no setting",
        ),
        ({"peft_type": "LORA"}, AdapterError, "names no r or no target_modules"),
    ],
)
def test_what_no_run_can_begin_with_is_refused(tmp_path, config, error, message):
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(error, match=message):
        continued_method(tmp_path)
