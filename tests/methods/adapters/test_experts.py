"""Adapters of experts' weights: what they compute, start from, and refuse."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn

from rankwise.core.errors import AdapterError, ModelError, SettingsError
from rankwise.export.ledger import export_ledger
from rankwise.functional.core_gradient import corrected_core_gradient
from rankwise.methods.adapters.bridge import adapted_layers, delta
from rankwise.methods.adapters.delora import DeloraConfig
from rankwise.methods.adapters.lora_xs import LoraXSConfig, correct_core_gradients
from rankwise.methods.chain.chain import Chain
from rankwise.methods.chain.ledger import read_ledger, write_ledger
from rankwise.methods.inits.initialize import initialize
from rankwise.methods.inits.update import UpdateApproximation
from tests.models.adapters import KINDS, OURS

EXPERTS, OUT, IN = 3, 5, 4
TARGETS = ["experts.up", "experts.down"]
LR = 1e-2


class Experts(nn.Module):
    """Experts as Transformers 5 has them: two stacks, read and never called."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Parameter(torch.randn(EXPERTS, OUT, IN))
        self.down = nn.Parameter(torch.randn(EXPERTS, IN, OUT))

    def forward(self, x: Tensor, expert: Tensor) -> Tensor:
        hidden = torch.einsum("noi,ni->no", self.up[expert], x).tanh()
        return torch.einsum("nio,no->ni", self.down[expert], hidden)


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.experts = Experts()

    def forward(self, x: Tensor, expert: Tensor) -> Tensor:
        return x + self.experts(x, expert)


def inputs(experts: int = EXPERTS) -> tuple[Tensor, Tensor]:
    x = torch.randn(12, IN, generator=torch.Generator().manual_seed(1))
    return x, torch.arange(12) % experts


def attach(kind: str, **options) -> PeftModel:
    torch.manual_seed(2)
    options = {"r": 2, "target_modules": [], "target_parameters": TARGETS, **options}
    return get_peft_model(Network(), KINDS[kind](**options)).eval()


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return (model(*batch) - 1).square().sum()


def train(model: nn.Module, *, steps: int = 3) -> None:
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=LR)
    for _ in range(steps):
        loss(model, inputs()).backward()
        optimizer.step()
        optimizer.zero_grad()


def shifted(model: PeftModel) -> Network:
    """Return the network with ΔW added to its weights by hand."""
    network = Network()
    for layer in adapted_layers(model).values():
        getattr(network.experts, layer.parameter_name).data += delta(layer, "default").detach()
    return network


@pytest.mark.parametrize("kind", OURS)
def test_each_expert_has_its_own_change(kind):
    model = attach(kind)
    train(model)
    changes = [delta(layer, "default") for layer in adapted_layers(model).values()]
    assert {tuple(each.shape) for each in changes} == {(EXPERTS, OUT, IN), (EXPERTS, IN, OUT)}
    for change in changes:
        assert [int(torch.linalg.matrix_rank(each)) for each in change] == [
            2 if kind == "lora_xs" else 4
        ] * EXPERTS
        assert not torch.allclose(change[0], change[1])
    torch.testing.assert_close(model(*inputs()), shifted(model)(*inputs()))
    with model.disable_adapter():
        assert torch.equal(model(*inputs()), Network()(*inputs()))


@pytest.mark.parametrize("kind", OURS)
def test_unloading_gives_the_module_back_and_unmerging_the_bits(kind):
    model = attach(kind)
    train(model)
    adapted = model(*inputs())
    model.merge_adapter()
    torch.testing.assert_close(model(*inputs()), adapted)
    model.unmerge_adapter()
    assert torch.equal(model(*inputs()), adapted)
    base = model.unload()
    assert type(base.experts) is Experts
    assert torch.equal(base(*inputs()), Network()(*inputs()))


@pytest.mark.parametrize("kind", OURS)
def test_a_second_adapter_lies_beside_the_first(kind):
    model = attach(kind)
    train(model)
    adapted = model(*inputs())
    model.add_adapter("other", KINDS[kind](r=2, target_modules=[], target_parameters=TARGETS))
    assert torch.equal(model(*inputs()), adapted)
    model.set_adapter("other")
    assert not torch.equal(model(*inputs()), adapted)
    model.set_adapter("default")
    model.delete_adapter("other")
    assert torch.equal(model(*inputs()), adapted)


def test_adapters_of_other_parameters_are_refused():
    model = attach("lora_xs")
    config = LoraXSConfig(r=2, target_modules=[], target_parameters=["experts.up"])
    with pytest.raises(ModelError, match=r"adapters of one model must name the same"):
        model.add_adapter("other", config)


@pytest.mark.parametrize("config", [LoraXSConfig, DeloraConfig])
def test_dropout_has_no_place_there(config):
    dropout = "lora_dropout" if config is LoraXSConfig else "module_dropout"
    with pytest.raises(SettingsError, match=r"no place in target_parameters"):
        config(target_parameters=TARGETS, **{dropout: 0.1})
    with pytest.raises(SettingsError, match="list of names"):
        config(target_parameters="experts.up")


def test_what_is_no_stack_is_refused_by_name():
    base = nn.Sequential(nn.Linear(4, 3))
    with pytest.raises(ModelError, match=r"0\.weight in target_parameters.*only stacks"):
        get_peft_model(base, LoraXSConfig(r=2, target_modules=[], target_parameters=["0.weight"]))


def test_samples_cannot_be_mixed():
    model = attach("lora_xs")
    with pytest.raises(ModelError, match="cannot mix adapters of experts"):
        model(*inputs(), adapter_names=["default"] * 12)


@pytest.mark.parametrize("kind", ["lora_xs", "lora"])
def test_the_update_init_is_the_first_step_of_full_fine_tuning(kind):
    model = attach(kind, r=4)
    initialize(model, UpdateApproximation(lr=LR), [inputs()], loss=loss)
    full = Network()
    optimizer = torch.optim.Adam(full.parameters(), lr=LR, eps=1e-30)
    loss(full, inputs()).backward()
    start = {name: p.detach().clone() for name, p in full.named_parameters()}
    optimizer.step()
    for layer in adapted_layers(model).values():
        name = f"experts.{layer.parameter_name}"
        step = full.get_parameter(name) - start[name]
        torch.testing.assert_close(delta(layer, "default"), step, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["lora_xs", "lora"])
def test_an_expert_without_tokens_keeps_its_start_or_is_refused_by_name(kind):
    model = attach(kind, r=4)
    batch = inputs(experts=2)
    with pytest.raises(ModelError, match=r"no token .* comes to \S+experts\S*\[2\]"):
        initialize(model, UpdateApproximation(lr=LR), [batch], loss=loss)
    before = [delta(layer, "default")[2] for layer in adapted_layers(model).values()]
    init = UpdateApproximation(lr=LR, skip_unused=True)
    report = initialize(model, init, [batch], loss=loss)
    after = [delta(layer, "default") for layer in adapted_layers(model).values()]
    assert all(torch.equal(now[2], then) for now, then in zip(after, before, strict=True))
    assert all(now[:2].abs().max() > LR / 2 for now in after)
    assert [name[-3:] for name in report.outcome.unused] == ["[2]", "[2]"]


def test_the_captured_share_is_over_all_experts():
    model = attach("lora", r=4)
    init = UpdateApproximation(lr=LR)
    report = initialize(model, init, [inputs()], loss=loss, measure=True)
    assert all(0.9 < layer.captured_after <= 1 for layer in report.layers)


@pytest.mark.parametrize("side", ["left", "right", "both"])
def test_a_chain_folds_comes_back_from_its_ledger_and_ends(side, tmp_path):
    model = attach("lora")
    chain = Chain(model, side=side)
    for _ in range(2):
        train(model)
        before = model(*inputs())
        chain.fold()
        torch.testing.assert_close(model(*inputs()), before)
    train(model)
    adapted = model(*inputs())
    chain.save(tmp_path)
    again = attach("lora")
    other = Chain(again, side=side)
    other.load(tmp_path)
    again.save_pretrained(tmp_path)
    export_ledger(tmp_path, tmp_path / "out")
    exported = PeftModel.from_pretrained(Network(), tmp_path / "out")
    torch.testing.assert_close(exported(*inputs()), adapted)
    assert torch.equal(again(*inputs()), adapted)
    report = chain.finish()
    assert report.rank == 6
    torch.testing.assert_close(model(*inputs()), adapted)
    with model.disable_adapter():
        assert torch.equal(model(*inputs()), Network()(*inputs()))
    compressed = other.finish(final_rank=2)
    assert compressed.rank == 2
    assert all(0 < error < 1 for error in compressed.errors.values())
    for layer in adapted_layers(again).values():
        assert [int(torch.linalg.matrix_rank(each)) for each in delta(layer, "default")] == [2] * 3


@pytest.mark.parametrize("kind", OURS)
def test_a_chain_of_our_adapters_folds_comes_back_and_ends(kind, tmp_path):
    model = attach(kind)
    chain = Chain(model)
    assert torch.equal(model(*inputs()), Network()(*inputs()))
    for _ in range(2):
        train(model)
        before = model(*inputs())
        chain.fold()
        torch.testing.assert_close(model(*inputs()), before)
    train(model)
    adapted = model(*inputs())
    again = attach(kind)
    chain.save(tmp_path)
    other = Chain(again)
    other.load(tmp_path)
    assert torch.equal(again(*inputs()), adapted)
    again.save_pretrained(tmp_path)
    export_ledger(tmp_path, tmp_path / "out")
    exported = PeftModel.from_pretrained(Network(), tmp_path / "out")
    torch.testing.assert_close(exported(*inputs()), adapted)
    chain.finish()
    assert type(model.peft_config["default"]) is LoraConfig
    torch.testing.assert_close(model(*inputs()), adapted)
    with model.disable_adapter():
        assert torch.equal(model(*inputs()), Network()(*inputs()))
    model.save_pretrained(tmp_path / "lora")
    loaded = PeftModel.from_pretrained(Network(), tmp_path / "lora")
    torch.testing.assert_close(loaded(*inputs()), adapted)
    shifted(model)


def test_a_lora_of_peft_on_a_matrix_by_its_parameter_is_taken_too():
    base = nn.Sequential(nn.Linear(4, 3))
    config = LoraConfig(r=2, target_modules=[], target_parameters=["0.weight"])
    model = get_peft_model(base, config)
    x = torch.randn(6, 4, generator=torch.Generator().manual_seed(3))
    init = UpdateApproximation(lr=LR)
    initialize(model, init, [x], loss=lambda model, x: model(x).square().sum())
    (layer,) = adapted_layers(model).values()
    assert delta(layer, "default").shape == (3, 4)
    assert delta(layer, "default").abs().max() > LR / 2


@pytest.mark.parametrize("scaling", [None, 8.0])
def test_the_cores_of_experts_are_corrected_one_by_one(scaling):
    model = attach("lora_xs", lora_alpha=scaling)
    loss(model, inputs()).backward()
    layers = adapted_layers(model).values()
    before = [layer.parts("default")[0].grad.clone() for layer in layers]
    correct_core_gradients(model)
    for layer, plain in zip(layers, before, strict=True):
        core, B, A = layer.parts("default")
        for expert in range(EXPERTS):
            expected = corrected_core_gradient(
                plain[expert], B[expert], A[expert], scaling=layer.scaling["default"]
            )
            assert torch.equal(core.grad[expert], expected)
            assert not torch.allclose(expected, plain[expert])


def test_a_model_without_cores_is_refused():
    with pytest.raises(ModelError, match=r"has no LoRA-XS layer.*attach rankwise\.LoraXSConfig"):
        correct_core_gradients(attach("delora"))


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_ledger_of_experts_leaves_with_a_smaller_rank(side, tmp_path):
    model = attach("lora")
    chain = Chain(model, side=side)
    for _ in range(2):
        train(model)
        chain.fold()
    train(model)
    model.save_pretrained(tmp_path)
    exported = export_ledger(tmp_path, tmp_path / "out", rank=2)
    report = chain.finish(final_rank=2)
    assert exported.errors == pytest.approx(report.errors)
    loaded = PeftModel.from_pretrained(Network(), tmp_path / "out")
    torch.testing.assert_close(loaded(*inputs()), model(*inputs()))


def test_a_ledger_of_0_1_does_not_name_its_experts(tmp_path):
    model = attach("lora")
    Chain(model).save(tmp_path)
    model.save_pretrained(tmp_path)
    ledger = read_ledger(tmp_path)
    write_ledger(tmp_path, replace(ledger, config={}))
    with pytest.raises(AdapterError, match=r"experts\S* is a stack of experts, which the ledgers"):
        export_ledger(tmp_path, tmp_path / "out")
