"""Placed ranks: the gradient's, within the budget, and read again as they were written."""

from __future__ import annotations

import peft
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from torch import nn

from rankwise.capture.gradients import capture_gradients
from rankwise.core.errors import DataError, ModelError, SettingsError
from rankwise.functional.placement import greedy_ranks
from rankwise.methods.adapters.bridge import adapted_layers, rank
from rankwise.methods.adapters.delora import DeloraConfig
from rankwise.methods.adapters.lora_xs import LoraXSConfig
from rankwise.methods.inits.initialize import initialize
from rankwise.methods.inits.update import UpdateApproximation
from rankwise.methods.placement import place_ranks, placed_at_random, placed_evenly
from tests.models.batches import points, split
from tests.models.networks import classifier

TARGETS = ["first", "second", "head"]
SIDES = {"first": (8, 4), "second": (8, 8), "head": (3, 8)}
CONFIGS = {
    "lora": lambda **options: LoraConfig(**{"r": 3, "target_modules": TARGETS} | options),
    "lora_xs": lambda **options: LoraXSConfig(**{"r": 3, "target_modules": TARGETS} | options),
    "delora": lambda **options: DeloraConfig(**{"r": 3, "target_modules": TARGETS} | options),
}
BATCHES = split(points(12), 5, 5, 2)


def squares():
    """The squared singular values of the gradient of each layer, by an exact decomposition."""
    base, found = classifier(), {}
    layers = {name: base.get_submodule(name) for name in TARGETS}
    capture_gradients(base, layers, batches=BATCHES, consume=found.__setitem__)
    return {name: torch.linalg.svdvals(found[name]).square().tolist() for name in TARGETS}


def trained(model):
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def ranks_of(model):
    layers = adapted_layers(model)
    return {name.removeprefix("base_model.model."): rank(layer, "default")
            for name, layer in layers.items()}  # fmt: skip


@pytest.mark.parametrize("budget", [11, 12, 30, 55, 90, 1000])
def test_ranks_go_where_the_squared_gradient_a_parameter_is_greatest(budget):
    placement = place_ranks(classifier(), CONFIGS["lora"](), BATCHES, budget=budget)
    gains = [squares()[name][:3] for name in TARGETS]
    costs = [[sum(SIDES[name])] * 3 for name in TARGETS]
    assert list(placement.ranks.values()) == greedy_ranks(gains, costs, budget=budget)
    assert list(placement.ranks) == TARGETS
    whole = sum(map(sum, squares().values()))
    followed = sum(sum(squares()[name][:r]) for name, r in placement.ranks.items())
    assert placement.captured_share == pytest.approx(followed / whole)


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("budget", [13, 30, 55])
def test_the_model_trains_what_was_promised_where_it_was(kind, budget):
    base = classifier()
    placement = place_ranks(base, CONFIGS[kind](), BATCHES, budget=budget)
    model = get_peft_model(base, placement.config)
    assert trained(model) == placement.parameters <= budget
    assert ranks_of(model) == {name: r for name, r in placement.ranks.items() if r}


@pytest.mark.parametrize("kind", ["lora", "lora_xs"])
def test_the_share_is_what_the_directions_of_the_gradient_then_follow(kind):
    base, batches = classifier(), [points(12)]
    placement = place_ranks(base, CONFIGS[kind](), batches, budget=40)
    model = get_peft_model(base, placement.config)
    init = UpdateApproximation(lr=0.1, mode="raw", start="zero")
    report = initialize(model, init, batches, measure=True)
    totals = {name: sum(values) for name, values in squares().items()}
    followed = sum(totals[each.name.rpartition(".")[2]] * (each.captured_after or 0)
                   for each in report.layers)  # fmt: skip
    assert placement.captured_share == pytest.approx(followed / sum(totals.values()))


@pytest.mark.parametrize(("trains", "cost"), [("A", 4), ("B", 8)])
def test_a_factor_that_is_frozen_costs_nothing(trains, cost):
    config = LoraConfig(r=3, target_modules=["first"])
    placement = place_ranks(classifier(), config, BATCHES, budget=2 * cost, trains=trains)
    assert (placement.ranks, placement.parameters) == ({"first": 2}, 2 * cost)


def test_the_most_that_a_layer_gets_is_r_or_its_smaller_side():
    config = LoraConfig(r=5, target_modules=TARGETS)
    assert place_ranks(classifier(), config, BATCHES, budget=10**6).ranks["head"] <= 3
    config = LoraConfig(r=1, target_modules=TARGETS)
    ranks = place_ranks(classifier(), config, BATCHES, budget=10**6).ranks
    assert set(ranks.values()) == {1}


def test_a_layer_may_have_a_most_and_a_scaling_of_its_own():
    config = LoraConfig(r=2, lora_alpha=6, target_modules=TARGETS)
    config.rank_pattern, config.alpha_pattern = {"second": 1}, {"second": 5}
    base = classifier()
    placement = place_ranks(base, config, BATCHES, budget=10**6)
    assert placement.ranks == {"first": 2, "second": 1, "head": 2}
    tight = place_ranks(base, config, BATCHES, budget=40)
    model = get_peft_model(base, tight.config)
    scalings = {name: 5 / 1 if name == "second" else 6 / 2 for name in TARGETS}
    for name, layer in model.base_model.model.named_modules():
        if isinstance(layer, LoraLayer):
            assert layer.scaling["default"] == scalings[name]


@pytest.mark.parametrize("use_rslora", [False, True])
def test_the_scaling_stays(use_rslora):
    config = LoraConfig(r=4, lora_alpha=8, use_rslora=use_rslora, target_modules=TARGETS)
    base = classifier()
    model = get_peft_model(base, place_ranks(base, config, BATCHES, budget=60).config)
    scalings = {
        layer.scaling["default"] for layer in model.modules() if isinstance(layer, LoraLayer)
    }
    assert scalings == {8 / 2 if use_rslora else 8 / 4}
    assert len(set(ranks_of(model).values())) > 1


class Nested(nn.Module):
    """Layers whose names are the ends of one another's."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 6)
        self.c = nn.ModuleDict({"a": nn.Linear(6, 6), "b": nn.Linear(6, 3)})

    def forward(self, x):
        return self.c["b"](torch.tanh(self.c["a"](torch.tanh(self.b(torch.tanh(self.a(x)))))))


@pytest.mark.parametrize("budget", [12, 20, 34, 47, 60])
def test_names_that_end_as_others_do_mean_themselves_when_read_again(tmp_path, budget):
    base = Nested()
    config = LoraConfig(r=3, target_modules=["a", "b"])
    placement = place_ranks(
        base, config, [torch.randn(7, 4)], budget=budget, loss=lambda m, x: m(x).square().sum()
    )
    kept = {name: r for name, r in placement.ranks.items() if r}
    model = get_peft_model(base, placement.config)
    assert ranks_of(model) == kept
    model.save_pretrained(tmp_path)
    assert ranks_of(PeftModel.from_pretrained(Nested(), tmp_path)) == kept


def test_the_base_comes_back_as_it_was():
    base = classifier()
    before = [(p.clone(), p.requires_grad, p.grad) for p in base.parameters()]
    place_ranks(base, CONFIGS["lora"](), BATCHES, budget=40)
    for parameter, (value, requires_grad, gradient) in zip(base.parameters(), before, strict=True):
        assert torch.equal(parameter, value)
        assert (parameter.requires_grad, parameter.grad) == (requires_grad, gradient)


def test_all_linear_layers_and_layers_that_are_left_out():
    config = LoraConfig(r=2, target_modules="all-linear", exclude_modules=["second"])
    assert set(place_ranks(classifier(), config, BATCHES, budget=60).ranks) == {"first", "head"}


def test_a_layer_without_a_gradient_gets_none():
    base = classifier()
    base.idle = nn.Linear(4, 4).double()
    config = LoraConfig(r=2, target_modules=["first", "idle"])
    assert place_ranks(base, config, BATCHES, budget=10**4).ranks["idle"] == 0


def test_controls_keep_the_budget_and_the_seed_decides():
    base, config = classifier(), CONFIGS["lora"]()
    drawn = [placed_at_random(base, config, budget=60, seed=seed) for seed in (0, 0, 1, 2, 3)]
    assert drawn[0].ranks == drawn[1].ranks
    assert len({tuple(each.ranks.values()) for each in drawn}) > 1
    even = placed_evenly(base, config, budget=60)
    for each in (*drawn, even):
        assert trained(get_peft_model(classifier(), each.config)) == each.parameters <= 60
        assert each.captured_share == 0


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (peft.LoHaConfig(target_modules=["first"]), "got LoHaConfig"),
        (CONFIGS["lora"](use_dora=True), "use_dora does not go together"),
        (LoraConfig(r=2), "name them, or 'all-linear'"),
        (LoraConfig(r=2, target_modules=["third"]), r"fits no layer of Classifier"),
    ],
)
def test_what_cannot_be_placed_is_refused(config, message):
    with pytest.raises(SettingsError, match=message):
        place_ranks(classifier(), config, BATCHES, budget=40)


def test_a_budget_below_the_cheapest_rank_is_refused_with_its_price():
    with pytest.raises(SettingsError, match=r"a budget of 10 parameters .* the cheapest .* has 11"):
        place_ranks(classifier(), CONFIGS["lora"](), BATCHES, budget=10)


def test_layers_that_are_not_linear_and_no_batches_are_refused():
    config = LoraConfig(r=2, target_modules=["first", "relu"])
    with pytest.raises(ModelError, match="relu is a ReLU"):
        place_ranks(classifier(), config, BATCHES, budget=40)
    with pytest.raises(DataError, match="batches is empty"):
        place_ranks(classifier(), CONFIGS["lora"](), [], budget=40)
