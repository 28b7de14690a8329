"""`rankwise quickstart`: the comparison, the curves and what they show."""

from __future__ import annotations

import pytest

from rankwise.cli.main import main
from rankwise.comparison.loss_curves import LossCurve, as_bars, said_of_starts
from rankwise.comparison.records import SummaryRow
from rankwise.training.settings.recipe import load_recipe

SHORT = ["--training.epochs", "2", "--compare.seeds", "0", "--compare.learning_rates", "0.01"]
SHORT += ["--task.pretrain_epochs", "1", "--workers", "1"]


def curve(name, *losses):
    return LossCurve(SummaryRow(name=name, r=1), losses)


@pytest.mark.processes
@pytest.mark.usefixtures("forked_workers")
def test_it_compares_lora_with_the_four_methods_and_shows_curves(tmp_path, capsys):
    assert main(["quickstart", *SHORT, "--output", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "validation loss over epochs" in text
    for name in ("abm-lora", "rac-lora", "lora-sb", "delora"):
        (said,) = [line for line in text.splitlines() if line.startswith(f"{name} r=")]
        assert "against lora" in said
    assert (tmp_path / "report.html").is_file()
    assert (tmp_path / "summary.json").is_file()


def test_every_method_has_about_as_many_parameters():
    budgets = {method.budget for method in load_recipe("quickstart").compare.methods}
    assert budgets == {"300"}


def test_a_best_rate_at_an_edge_lets_the_grid_grow_as_on_digits():
    quickstart, digits = load_recipe("quickstart").compare, load_recipe("digits").compare
    assert quickstart.widenings == digits.widenings > 0


def test_what_is_said_is_what_the_curves_are():
    curves = [curve("lora", 2.0, 1.0, 0.5), curve("delora", 2.0, 1.2, 0.4)]
    curves.append(curve("lora-sb", 1.0, 0.9, 0.8))
    assert said_of_starts(curves, baseline="lora") == [
        "delora r=1: loss equal at the start and 20% higher after one epoch, against lora; it "
        "reached lora's last loss after 2 of 2 epochs",
        "lora-sb r=1: loss 50% lower at the start and 10% lower after one epoch, against lora; it "
        "did not reach lora's last loss",
    ]


def test_without_the_baseline_nothing_is_said():
    assert said_of_starts([curve("delora", 1.0, 0.5)], baseline="lora") == []


def test_bars_rise_with_the_loss_and_are_no_more_than_the_width():
    assert as_bars([1.0, 0.0], highest=1.0) == "█▁"
    assert len(as_bars([0.5] * 100, highest=1.0, width=10)) == 10
