"""A task of VTAB on a vision transformer: rows, the head, and the made-up run."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from rankwise.core.errors import DataError, ModelError
from rankwise.methods.inits.monitored import find_monitored
from rankwise.tasks.vtab.task import VtabTask
from tests.models.saved import make_bert, make_vit
from tests.tasks.vtab.vtab_folders import write_arrays, write_files


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    return make_vit(tmp_path_factory.mktemp("vit") / "model", classes=10)


def test_rows_come_in_the_size_of_the_model_with_their_sources(vit, tmp_path):
    root = write_files(tmp_path, "eurosat", train=10, test=4)
    splits = VtabTask("eurosat", vit, root).splits()
    assert splits.train.take(slice(0, 2))["pixel_values"].shape == (2, 3, 16, 16)
    assert splits.facts["train"] == {
        "rows": 8,
        "source": "8 of the 10 images of vision/eurosat/train",
    }
    assert splits.facts["validation"]["trained_on"] is False
    final = VtabTask("eurosat", vit, root, protocol="final").splits()
    assert final.facts["validation"]["trained_on"] is True


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_broken_image_stops_the_task_before_anything_is_trained(vit, tmp_path, split):
    root = write_files(tmp_path, "eurosat", train=10, test=4)
    file = root / "vision" / "eurosat" / split / "003.png"
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(DataError, match=rf"{split}.003.png cannot be read"):
        VtabTask("eurosat", vit, root).splits()


@pytest.mark.parametrize("name", ["eurosat", "pets"])
def test_the_head_is_drawn_from_the_seed_whatever_the_checkpoint_has(vit, name):
    """The checkpoint has a head of ten classes, as eurosat has; pets has 37."""
    models = [VtabTask(name, vit, head_seed=seed).base_model(None) for seed in (0, 0, 1)]
    heads = [model.classifier.weight for model in models]
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])
    assert heads[0].std().item() == pytest.approx(0.02, rel=0.3)
    stored = load_file(f"{vit}/model.safetensors")
    assert not torch.equal(heads[0][:10], stored["classifier.weight"])
    body = models[0].vit.state_dict()
    for key, value in body.items():
        assert torch.equal(value, models[2].vit.state_dict()[key])


def test_a_checkpoint_without_a_head_gets_one(vit, tmp_path):
    body = make_vit(tmp_path / "body")
    file = f"{body}/model.safetensors"
    save_file({k: v for k, v in load_file(file).items() if "classifier" not in k}, file)
    head = VtabTask("pets", body).base_model(None).classifier
    assert torch.equal(head.weight, VtabTask("pets", vit).base_model(None).classifier.weight)


def test_adapters_go_on_attention_and_mlp(vit):
    model = VtabTask("svhn", vit).base_model(None)
    config = LoraConfig(target_modules=VtabTask.target_modules, modules_to_save=["classifier"])
    adapted = {name.split(".")[-1] for name in get_peft_model(model, config).targeted_module_names}
    assert adapted == {"q_proj", "k_proj", "v_proj", "o_proj", "fc1", "fc2"}


def test_boundaries_are_those_of_the_mlps_inputs_to_gelu(vit):
    model, batch = VtabTask("svhn", vit).base_model(None), torch.zeros(1, 3, 16, 16)
    monitor = find_monitored(model, lambda: model(batch), layers=None, last=2, power=2)
    assert [call.name for call in monitor.calls] == [
        f"vit.layers.{layer}.mlp.activation_fn" for layer in (0, 1)
    ]
    (first, _) = monitor.activations(lambda: model(batch))
    assert first.shape == (1, 1 + 4, 32)  # the class token and four patches; fc1's outputs


def test_a_rehearsal_has_the_models_own_size(vit):
    rehearsal = VtabTask("dtd", vit).rehearse()
    assert rehearsal.batch["pixel_values"].shape == (1, 3, 16, 16)
    assert rehearsal.model(**rehearsal.batch)["logits"].shape == (1, 47)
    assert rehearsal.training_rows == 800


def test_a_model_that_is_no_classifier_of_images_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"\(BertConfig\) is none for AutoModelForImageCl"):
        VtabTask("dtd", make_bert(tmp_path / "bert", ["text"])).base_model(None)


def test_a_model_without_an_image_processor_is_refused(tmp_path):
    root = write_arrays(tmp_path, "svhn", train=5, test=1)
    model = tmp_path / "vit"
    make_vit(model)
    (model / "preprocessor_config.json").unlink()
    with pytest.raises(ModelError, match="cannot be loaded"):
        VtabTask("svhn", str(model), root).splits()
