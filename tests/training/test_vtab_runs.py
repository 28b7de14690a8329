"""VTAB from local folders to record, on a small vision transformer that has seen real images.

Two of the nineteen tasks stand for folders of scikit-learn's digits, four times as large: ``svhn``
tells the ten digits, ``dsprites-orientation`` by how many quarters they are turned.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from sklearn.datasets import load_digits
from transformers import ViTForImageClassification

from rankwise.core.errors import DataError, SettingsError
from rankwise.methods.table import METHODS
from rankwise.tasks.vtab.task import VtabTask
from rankwise.training.finished import FinishedRun, score_test
from rankwise.training.folder import RunFolder
from rankwise.training.run import train_run
from rankwise.training.settings.recipe import load_recipe
from tests.models.saved import make_vit

pytestmark = pytest.mark.runs

TRAIN, TEST = 200, 60


@pytest.fixture(scope="module")
def digits():
    pixels, digits = load_digits(return_X_y=True)
    small = (pixels.reshape(-1, 8, 8) * 15).astype(np.uint8)
    return np.stack([np.asarray(Image.fromarray(each).resize((16, 16))) for each in small]), digits


@pytest.fixture(scope="module")
def root(tmp_path_factory, digits):
    """Files for one task, arrays for the other."""
    root, (images, labels) = tmp_path_factory.mktemp("data"), digits
    rows = {"train": slice(TRAIN), "test": slice(TRAIN, TRAIN + TEST)}
    for split, part in rows.items():
        folder = root / "vision" / "svhn" / split
        folder.mkdir(parents=True)
        lines = ["file,label"]
        for row, (image, label) in enumerate(zip(images[part], labels[part])):
            Image.fromarray(image).save(folder / f"{row}.png")
            lines.append(f"{row}.png,{label}")
        (folder / "labels.csv").write_text("\n".join(lines))
        turns = np.arange(len(images[part])) % 4
        turned = np.stack([np.rot90(image, turn) for image, turn in zip(images[part], turns)])
        folder = root / "vision" / "dsprites-orientation" / split
        folder.mkdir(parents=True)
        np.savez(folder / "arrays.npz", images=turned, labels=turns)
    return root


@pytest.fixture(scope="module")
def vit(tmp_path_factory, digits):
    """A transformer trained for a moment on digits that the tasks do not show."""
    folder, (images, labels) = make_vit(tmp_path_factory.mktemp("vit"), classes=10), digits
    pixels = torch.tensor(images[600:1400]).float().div(127.5).sub(1)[:, None].expand(-1, 3, -1, -1)
    targets = torch.tensor(labels[600:1400])
    model = ViTForImageClassification.from_pretrained(folder)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(100):
        rows = slice(64 * step % 768, 64 * step % 768 + 64)
        model(pixel_values=pixels[rows], labels=targets[rows]).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def run_of(root, vit):
    def make(name, task="svhn", *, method=None, protocol="tuning", **training):
        # The recipe's own init is that of abm-lora.
        init = METHODS[name].init
        task = {"name": task, "data_root": str(root), "model": vit, "protocol": protocol}
        return load_recipe(
            "abm-vtab",
            {
                "task": task,
                "method": {"name": name, "r": 2, "init": init, **(method or {})},
                "training": {"epochs": 4, "batch_size": 16, "learning_rate": 1e-2, **training},
            },
        ).run()

    return make


SHORT = {"init": {"steps": 10, "samples": 32}}
CHAIN = {"schedule": {"every_epochs": 1}}


@pytest.mark.parametrize(
    ("name", "method", "task"),
    [
        ("lora", {}, "svhn"),
        ("abm-lora", SHORT, "svhn"),
        ("abm-lora", SHORT, "dsprites-orientation"),
        ("rac-lora", CHAIN, "dsprites-orientation"),
        ("lora-sb", {}, "svhn"),
        ("delora", {}, "dsprites-orientation"),
    ],
)
def test_a_run_learns_and_leaves_the_model_that_its_record_describes(
    run_of, tmp_path, name, method, task
):
    run = run_of(name, task, method=method)
    record = train_run(run, tmp_path)
    first, *_, last = record.curve
    assert last.validation_loss < first.validation_loss
    scored = FinishedRun.below(tmp_path, run.name).score("validation")
    assert scored.score == record.score_validation
    classes = {"svhn": 10, "dsprites-orientation": 16}[task]
    assert record.head_parameters == (16 + 1) * classes
    test = score_test(run, tmp_path)
    assert len(test.predictions) == TEST
    assert test.score_test > 2 / classes


def test_boundaries_are_matched_on_the_mlps(run_of, tmp_path):
    record = train_run(run_of("abm-lora", method=SHORT, epochs=1), tmp_path)
    monitored = record.init.monitored
    assert [layer.name for layer in monitored] == ["vit.layers.1.mlp.activation_fn"]


def test_the_final_run_trains_on_the_rows_it_was_tuned_with(run_of, tmp_path):
    record = train_run(run_of("lora", protocol="final", epochs=1), tmp_path)
    assert record.data["train"]["rows"] == TRAIN
    assert record.data["validation"]["trained_on"] is True


@pytest.mark.parametrize("choice", [{"keep": "best"}, {"patience": 3}])
def test_the_final_run_chooses_nothing(run_of, choice):
    with pytest.raises(SettingsError, match=r"trains on the validation rows too: nothing may be"):
        run_of("lora", protocol="final", **choice)


def test_the_head_is_trained_from_the_one_of_the_seed(run_of, root, vit, tmp_path):
    run = run_of("lora", epochs=1)
    train_run(run, tmp_path)
    saved = load_file(RunFolder.below(tmp_path, run.name).adapter / "adapter_model.safetensors")
    (key,) = [key for key in saved if key.endswith("classifier.weight")]
    begun = VtabTask("svhn", vit, root, head_seed=run.seed).base_model(tmp_path).classifier.weight
    distance = (saved[key] - begun).norm() / begun.norm()
    assert 0 < distance < 5


def test_a_label_outside_of_the_classes_leaves_nothing_behind(run_of, root, tmp_path):
    file = root / "vision" / "dsprites-orientation" / "test" / "arrays.npz"
    kept = file.read_bytes()
    try:
        np.savez(file, images=np.zeros((2, 16, 16), np.uint8), labels=np.array([0, 16]))
        with pytest.raises(DataError, match=r"arrays.npz, image 1: .* from 0 to 15 .* got 16"):
            train_run(run_of("lora", "dsprites-orientation", epochs=5), tmp_path)
    finally:
        file.write_bytes(kept)
    assert not list((tmp_path / "runs").glob("*"))
