"""An adapter is saved as PEFT saves it, its card included."""

from __future__ import annotations

from rankwise.training.job import prepare_job
from rankwise.training.saving import save_trained


def test_the_card_is_the_one_that_peft_writes(settings, output, tmp_path):
    model = prepare_job(settings("lora"), output / "base").model
    model.save_pretrained(str(tmp_path / "peft"))
    for folder in ("ours", "again"):
        save_trained(model, tmp_path / folder)
        assert (tmp_path / folder / "README.md").read_bytes() == (
            tmp_path / "peft" / "README.md"
        ).read_bytes()


def test_a_card_that_is_there_is_kept(settings, output, tmp_path):
    model = prepare_job(settings("lora"), output / "base").model
    save_trained(model, tmp_path)
    card = tmp_path / "README.md"
    card.write_text(card.read_text(encoding="utf-8") + "\nMy own words.\n", encoding="utf-8")
    save_trained(model, tmp_path)
    assert "My own words." in card.read_text(encoding="utf-8")
