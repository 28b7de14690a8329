"""A chain folds where its block captures too little of the gradient: shares worked by hand."""

from __future__ import annotations

import functools

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from rankwise.capture.gradients import capture_gradients
from rankwise.core.errors import ChainError, ModelError, TrainingError
from rankwise.methods.adapters.delora import DeloraConfig
from rankwise.methods.adapters.lora_xs import LoraXSConfig
from rankwise.methods.chain.chain import Chain
from rankwise.methods.chain.fold_steps import FoldBelow
from rankwise.methods.chain.share_watch import Look, ShareWatch
from tests.models.chains import base_weights, same, trained

KINDS = {
    "lora": lambda **options: LoraConfig(r=1, lora_alpha=1, **options),
    "lora_xs": lambda **options: LoraXSConfig(r=1, lora_alpha=1, **options),
    "delora": lambda **options: DeloraConfig(r=1, **options),
}


class Pair(nn.Module):
    """Two linear layers without a bias, (2, 3) and (2, 2)."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 2, bias=False, dtype=torch.float64)
        self.second = nn.Linear(2, 2, bias=False, dtype=torch.float64)

    def forward(self, x):
        return self.second(self.first(x))


def pair(kind="lora"):
    torch.manual_seed(0)
    return get_peft_model(Pair(), KINDS[kind](target_modules=["first", "second"]))


def give(gradients):
    """Hand on given gradients, in the order of the layers; None is one that is zero."""

    def hand_on(layers, *, consume, consume_none):
        for name, gradient in zip(layers, gradients, strict=True):
            if gradient is None:
                consume_none(name)
            else:
                consume(name, torch.tensor(gradient, dtype=torch.float64))

    return hand_on


def look(chain, *gradients):
    """Return the one look at these gradients."""
    watch = ShareWatch(chain, FoldBelow(0.5, look_every=1), give(gradients))
    watch.is_due(1)
    ((step, share),) = watch.looks
    assert step == 1
    return share


def write(chain, **factors):
    """Give both layers these values of A, B or both."""
    for layer in chain._layers.values():
        parts = layer.open_parts()
        for part, value in factors.items():
            ours = value[: parts[part].shape[0]] if part == "B" else value[:, : layer.in_features]
            parts[part].data.copy_(ours)


ACROSS = torch.tensor([[1.0, 0.0, 0.0]])  # A, which sees the first input alone
DOWN = torch.tensor([[0.0], [2.0]])  # B, which moves the second output alone
FIRST = [[1.0, 2.0, 0.0], [3.0, 0.0, 4.0]]  # ‖G‖² = 30
SECOND = [[0.0, 1.0], [1.0, 0.0]]  # ‖G‖² = 2


# --- the share ---------------------------------------------------------------------------------


def test_beside_a_frozen_A_it_is_what_lies_along_its_rows():
    chain = Chain(pair(), side="right")
    write(chain, A=ACROSS)
    assert look(chain, FIRST, None) == pytest.approx((1 + 9) / 30)


def test_beside_a_frozen_B_it_is_what_lies_along_its_columns():
    chain = Chain(pair(), side="left")
    write(chain, B=DOWN)
    assert look(chain, FIRST, None) == pytest.approx((9 + 16) / 30)


def test_where_both_factors_train_it_is_what_lies_along_either():
    chain = Chain(pair(), side="both")
    write(chain, A=ACROSS, B=DOWN)
    assert look(chain, FIRST, None) == pytest.approx((30 - 4) / 30)


def test_of_a_core_it_is_what_lies_along_both():
    model = pair("lora_xs")
    chain = Chain(model)
    for layer in chain._layers.values():
        parts = layer.open_parts()
        parts["rankwise_xs_A"].data.copy_(ACROSS[:, : layer.in_features])
        parts["rankwise_xs_B"].data.copy_(DOWN)
    assert look(chain, FIRST, None) == pytest.approx(9 / 30)


def test_of_delora_it_is_what_strength_and_directions_follow():
    chain = Chain(pair("delora"))
    assert 0 < look(chain, FIRST, SECOND) < 1


def test_layers_count_by_the_squares_of_their_gradients():
    chain = Chain(pair(), side="right")
    write(chain, A=ACROSS)
    assert look(chain, FIRST, SECOND) == pytest.approx((10 / 30 * 30 + 1 / 2 * 2) / (30 + 2))


def test_of_a_gradient_of_zero_there_is_none_and_nothing_folds():
    chain = Chain(pair(), side="right")
    watch = ShareWatch(chain, FoldBelow(0.999, look_every=1), give([None, None]))
    assert not watch.is_due(1)
    assert watch.looks == [Look(1, None)]


def test_of_a_block_that_is_not_finite_it_is_not_known():
    chain = Chain(pair(), side="right")
    write(chain, A=ACROSS * float("nan"))
    with pytest.raises(TrainingError, match="the block is not finite"):
        look(chain, FIRST, SECOND)


def test_a_loss_without_the_layers_is_refused():
    model = pair()
    gradients = functools.partial(
        capture_gradients, model, batches=[0], loss=lambda *_: torch.ones(())
    )
    with pytest.raises(ModelError, match="depends on none of the layers"):
        ShareWatch(Chain(model), FoldBelow(0.5, look_every=1), gradients).is_due(1)


# --- when it folds -----------------------------------------------------------------------------


class Distance(nn.Module):
    """The matrix itself: half its squared distance from a target has the gradient W - target."""

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Linear(4, 4, bias=False, dtype=torch.float64)
        nn.init.zeros_(self.map.weight)

    def forward(self, target):
        return (self.map(torch.eye(4, dtype=torch.float64)).T - target).square().sum() / 2


def test_a_block_folds_when_what_it_follows_has_been_learned_and_the_rest_is_left():
    model = get_peft_model(
        Distance(), LoraConfig(r=1, lora_alpha=1, target_modules=["map"], lora_dropout=0.0)
    )
    generator = torch.Generator().manual_seed(3)
    target = torch.randn(4, 4, generator=generator, dtype=torch.float64)
    rate, rule = 0.1, FoldBelow(0.05, look_every=3, least_steps=6, most_steps=30)
    with Chain(model, side="right", sketch="orthonormal") as chain:
        gradients = functools.partial(
            capture_gradients, model, batches=[target], loss=lambda model, batch: model(batch)
        )
        watch = ShareWatch(chain, rule, gradients)
        optimizer = torch.optim.SGD(trained(model), lr=rate)
        (layer,) = chain._layers.values()

        def parts():
            """‖G Aᵀ‖² and the rest of ‖G‖², with A of length 1."""
            A = layer.open_parts()["A"].detach().double()
            G = (layer.get_base_layer().weight - target).detach()
            return float((G @ A.T).square().sum()), float((G - G @ A.T @ A).square().sum())

        begun, (along, rest), folds, expected = 0, parts(), [], []
        for step in range(1, 121):
            optimizer.zero_grad()
            model(target).backward()
            optimizer.step()
            # B goes down a parabola: what A sees of the gradient shrinks by (1 - rate) a step.
            steps = step - begun
            share = along * (1 - rate) ** (2 * steps) / (along * (1 - rate) ** (2 * steps) + rest)
            is_looked_at = steps >= 6 and steps % 3 == 0 and steps < 30
            if is_looked_at:
                expected.append(share)
            if watch.is_due(step):
                assert steps == 30 or (is_looked_at and share < 0.05)
                chain.fold(optimizer, step=step)
                folds.append(step)
                begun, (along, rest) = step, parts()
            else:
                assert not (is_looked_at and share < 0.05)
    assert [each.share for each in watch.looks] == pytest.approx(expected)
    lengths = [after - before for before, after in zip([0, *folds], folds, strict=False)]
    assert len(set(lengths)) > 2
    assert 6 <= min(lengths) <= max(lengths) <= 30
    assert chain.fold_steps == tuple(folds)


def folded(watch, chain, steps):
    for step in range(1, steps + 1):
        if watch.is_due(step):
            chain.fold(step=step)
    return list(chain.fold_steps)


def test_a_block_that_captures_nothing_is_folded_at_each_look_but_not_before_its_least_steps():
    chain = Chain(pair(), side="right")
    watch = ShareWatch(chain, FoldBelow(0.9999, look_every=4, least_steps=6), give([FIRST, SECOND]))
    assert folded(watch, chain, 30) == [8, 16, 24]
    assert [each.step for each in watch.looks] == [8, 16, 24]


def test_a_block_that_captures_enough_is_folded_after_its_most_steps():
    chain = Chain(pair(), side="right")
    rule = FoldBelow(1e-9, look_every=4, most_steps=7)
    watch = ShareWatch(chain, rule, give([FIRST, SECOND]))
    assert folded(watch, chain, 20) == [7, 14]
    assert [each.step for each in watch.looks] == [4, 11, 18]


def test_an_adapter_that_becomes_the_first_block_is_no_fold():
    model = pair()
    for layer in model.base_model.model.children():
        nn.init.ones_(layer.lora_B["default"].weight)
    chain = Chain(model, side="right")
    assert (chain.folds, chain.fold_steps) == (1, ())
    watch = ShareWatch(chain, FoldBelow(0.9999, look_every=2), give([FIRST, SECOND]))
    assert folded(watch, chain, 5) == [2, 4]


def test_looking_changes_nothing():
    model = pair()
    chain = Chain(model, side="right")
    x = torch.ones(2, 3, dtype=torch.float64)
    model(x).sum().backward()
    before = base_weights_of(model), [each.grad.clone() for each in trained(model)]
    random = torch.get_rng_state()
    gradients = functools.partial(
        capture_gradients, model, batches=[x], loss=lambda model, batch: model(batch).sum()
    )
    ShareWatch(chain, FoldBelow(0.5, look_every=1), gradients).is_due(1)
    after = base_weights_of(model), [each.grad for each in trained(model)]
    assert all(same(*each) for each in zip(before, after, strict=True))
    assert torch.equal(random, torch.get_rng_state())


def base_weights_of(model):
    return base_weights(model) + [each.detach().clone() for each in model.parameters()]


# --- what the ledger says ----------------------------------------------------------------------


def test_a_chain_that_is_taken_up_again_looks_and_folds_where_it_would_have(tmp_path):
    def begin():
        chain = Chain(pair(), side="right")
        rule = FoldBelow(1e-9, look_every=4, most_steps=7)
        return chain, ShareWatch(chain, rule, give([FIRST, SECOND]))

    chain, watch = begin()
    folded(watch, chain, 9)
    chain.save(tmp_path)
    again, resumed = begin()
    again.load(tmp_path)
    assert again.fold_steps == (7,)
    assert [step for step in range(10, 15) if resumed.is_due(step)] == [14]
    assert [each.step for each in resumed.looks] == [11]


def test_folds_at_steps_that_nobody_told_are_refused(tmp_path):
    chain = Chain(pair(), side="right")
    chain.fold()
    chain.save(tmp_path)
    again = Chain(pair(), side="right")
    again.load(tmp_path)
    for each in (chain, again):
        watch = ShareWatch(each, FoldBelow(0.5, look_every=1), give([FIRST, SECOND]))
        with pytest.raises(ChainError, match="give each fold its step, and resume a chain under"):
            watch.is_due(2)
