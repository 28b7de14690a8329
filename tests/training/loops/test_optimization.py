"""The optimizer that the settings ask for."""

from __future__ import annotations

import pytest
import torch

from rankwise.core.errors import SettingsError
from rankwise.training.folder import RunFolder
from rankwise.training.initialization import initialize_adapter, warning_of_scaling
from rankwise.training.job import prepare_job
from rankwise.training.loops.optimization import build_optimizer
from rankwise.training.run import train_run

pytestmark = pytest.mark.runs


def test_plain_gradient_steps_with_momentum(settings, output):
    run = settings("rac-lora", optimizer="sgd", momentum=0.9, learning_rate=0.1)
    optimizer = build_optimizer(prepare_job(run, output / "base").model, run)
    assert isinstance(optimizer, torch.optim.SGD)
    assert {group["momentum"] for group in optimizer.param_groups} == {0.9}


@pytest.mark.parametrize("name", ["lora", "rac-lora", "delora", "lora-sb", "full"])
@pytest.mark.parametrize("loop", ["lean", "trainer"])
def test_every_method_trains_with_it_in_both_loops(settings, output, name, loop):
    method = {"schedule": {"every_epochs": 1}} if name == "rac-lora" else {}
    options = {"optimizer": "sgd", "momentum": 0.5, "learning_rate": 0.02}
    run = settings(name, method=method, loop=loop, **options)
    record = train_run(run, output)
    assert record.curve[-1].validation_loss < record.curve[0].validation_loss


def test_momentum_without_sgd_is_refused(settings):
    with pytest.raises(SettingsError, match=r"momentum 0\.9 is of optimizer 'sgd', got 'adamw'"):
        settings("lora", momentum=0.9)


@pytest.mark.parametrize("loop", ["lean", "trainer"])
def test_a_corrected_run_does_not_depend_on_alpha(settings, output, loop):
    """SGD from the same R s: Theorem 5 of LoRA-SB; without the correction it does."""

    def losses(alpha, *, corrected):
        method = {
            "adapter": {"alpha": alpha, "gradient_correction": corrected},
            "init": {"kind": "random"},
        }
        run = settings(
            "lora-xs", r=4, method=method, optimizer="sgd", learning_rate=0.005, loop=loop, epochs=2
        )
        return [point.validation_loss for point in train_run(run, output).curve]

    assert losses(4, corrected=True) == pytest.approx(losses(8, corrected=True), rel=1e-3)
    assert losses(4, corrected=False) != pytest.approx(losses(8, corrected=False), rel=1e-3)


def test_an_alpha_that_is_not_r_is_warned_of(settings, output, tmp_path):
    odd = settings("lora-sb", r=4, method={"adapter": {"alpha": 8}})
    with pytest.warns(UserWarning, match="alpha 8 is not r 4"):
        initialize_adapter(prepare_job(odd, output / "base"), RunFolder(tmp_path, tmp_path))
    for adapter in ({}, {"alpha": 4}, {"alpha": 8, "gradient_correction": True}):
        fine = settings("lora-sb", r=4, method={"adapter": adapter})
        assert warning_of_scaling(fine.method) is None
    assert (
        warning_of_scaling(settings("lora-xs", r=4, method={"adapter": {"alpha": 8}}).method)
        is None
    )
