"""DeLoRA in the paper's own form, and in those of its ablations."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from peft import PeftModel, get_peft_model
from torch import nn

from rankwise.core.errors import SettingsError
from rankwise.methods.adapters.delora import DeloraConfig
from tests.models.single_layers import double_linear, wrapped

wrap = partial(wrapped, DeloraConfig)


def in_form(layer, *, initial=None, normalise=True):
    """ΔW by the dense formula, in the form that is asked for."""
    A, B, strength, A0, B0, norms = layer.parts("default")

    def term(A, B, factor):
        gains = factor / len(A)
        if normalise:
            gains = gains / (A.norm(dim=1) * B.norm(dim=0))
        return (B * gains) @ A

    return (term(A, B, strength) - term(A0, B0, strength if initial is None else initial)) * norms


def moved(**options):
    """A layer whose adapter has trained a little, in float64."""
    layer = wrap(double_linear(), r=3, delora_lambda=2.0, **options)
    assert not layer.get_delta_weight("default").any()
    optimizer = torch.optim.SGD([p for p in layer.parameters() if p.requires_grad], lr=0.1)
    for seed in range(3):
        x = torch.randn(5, 6, generator=torch.Generator().manual_seed(seed)).double()
        layer(x).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    return layer


@pytest.mark.parametrize(
    ("options", "form"),
    [
        ({"residual_lambda": "initial"}, {"initial": 2.0}),
        ({"normalise": False}, {"normalise": False}),
        (
            {"normalise": False, "residual_lambda": "initial"},
            {"normalise": False, "initial": 2.0},
        ),
        ({"weight_norms": "matrix"}, {}),
        ({"weight_norms": "none", "residual_lambda": "initial"}, {"initial": 2.0}),
    ],
)
def test_another_form_is_its_dense_formula_and_begins_at_zero(options, form):
    layer = moved(**options)
    change = layer.get_delta_weight("default")
    assert change.norm() > 0.01
    torch.testing.assert_close(change, in_form(layer, **form), rtol=1e-5, atol=1e-7)
    x = torch.randn(4, 6, generator=torch.Generator().manual_seed(9)).double()
    expected = nn.functional.linear(x, layer.weight + in_form(layer, **form), layer.bias)
    torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("weight_norms", "scale"), [("matrix", None), ("none", 1.0)])
def test_the_change_is_scaled_by_the_norm_of_the_weight_or_not_at_all(weight_norms, scale):
    layer = wrap(double_linear(), r=2, weight_norms=weight_norms)
    *_, norms = layer.parts("default")
    expected = torch.full((6,), scale or float(layer.weight.norm()))
    torch.testing.assert_close(norms.float(), expected)


def test_with_the_first_lambda_kept_a_strength_of_zero_is_not_the_base():
    kept, followed = (moved(residual_lambda=which) for which in ("initial", "current"))
    for layer in (kept, followed):
        layer.parts("default")[2].data.zero_()
    assert not followed.get_delta_weight("default").any()
    assert kept.get_delta_weight("default").norm() > 0.1


def test_another_form_survives_a_file(tmp_path):
    config = DeloraConfig(r=3, target_modules=["0"], normalise=False, residual_lambda="initial")
    torch.manual_seed(0)
    base = nn.Sequential(nn.Linear(6, 8))
    model = get_peft_model(base, config)
    with torch.no_grad():
        model.base_model.model[0].parts("default")[0].add_(0.1)
    change = model.base_model.model[0].get_delta_weight("default")
    model.save_pretrained(tmp_path)
    torch.manual_seed(0)
    loaded = PeftModel.from_pretrained(nn.Sequential(nn.Linear(6, 8)), str(tmp_path))
    torch.testing.assert_close(loaded.base_model.model[0].get_delta_weight("default"), change)


@pytest.mark.parametrize("option", ["weight_norms", "residual_lambda"])
def test_an_unknown_form_is_refused(option):
    with pytest.raises(SettingsError, match=f"{option} must be one of .*, got 'rows'"):
        DeloraConfig(**{option: "rows"})
