"""Adapters, inits and chains over quantised weights, on the real libraries and a CPU."""

from __future__ import annotations

import copy

import pytest
import torch
from bitsandbytes.nn import Linear4bit
from datasets import Dataset
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from trl import SFTConfig, SFTTrainer

from rankwise.capture.gradients import capture_gradients
from rankwise.core.errors import ModelError
from rankwise.export.lora import export_lora
from rankwise.export.merged import export_merged
from rankwise.methods.adapters.bridge import (
    adapted_layers,
    adapter_parameters,
    base_shape,
    base_weight,
    delta,
)
from rankwise.methods.adapters.quantised import backend_of, is_packed, keep_differentiable
from rankwise.methods.chain.chain import Chain
from rankwise.methods.inits.boundary import BoundaryMatching
from rankwise.methods.inits.initialize import initialize
from rankwise.methods.inits.update import UpdateApproximation
from tests.models.language import options, tokenizer
from tests.models.quantised import QUANTISED, attach, base, batch, config, logits, train

OURS = ("lora_xs", "delora")
kinds = pytest.mark.parametrize("kind", QUANTISED)
ours = pytest.mark.parametrize("method", OURS)
methods = pytest.mark.parametrize("method", [*OURS, "lora"])


def frozen_bytes(model: nn.Module) -> list[list]:
    """The quantised weights themselves, whatever they are made of."""
    return [base_weight(layer).tolist() for layer in adapted_layers(model).values()]


@kinds
@ours
def test_the_start_leaves_the_outputs_unchanged(method, kind):
    model = attach(method, kind)
    with model.disable_adapter():
        expected = logits(model)
    # The core of LoRA-XS starts at N(0, 1e-5²), and int8 layers round their inputs.
    atol = 0 if method == "delora" else 0.05 if kind == "int8" else 1e-3
    torch.testing.assert_close(logits(model), expected, rtol=0, atol=atol)


@kinds
@methods
def test_the_weight_is_dequantised_one_layer_at_a_time_and_stays(method, kind):
    model = attach(method, kind)
    plain = base(kind)
    for name, layer in adapted_layers(model).items():
        weight = base_weight(layer)
        assert weight.shape == base_shape(layer)
        assert weight.is_floating_point()
        other = plain.get_submodule(name.removeprefix("base_model.model."))
        assert torch.equal(weight, backend_of(other).get_base_weight(other))
    keep_differentiable(model)
    before = frozen_bytes(model)
    losses = train(model.train(), steps=4)
    model.eval()
    logits(model)
    assert losses[-1] < losses[0]
    assert frozen_bytes(model) == before


@kinds
@ours
def test_factors_train_in_float32_and_go_round(method, kind, tmp_path):
    model = attach(method, kind)
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}
    train(model.train())
    adapted = logits(model.eval())
    with model.disable_adapter():
        assert not torch.equal(logits(model), adapted)
    assert torch.equal(logits(copy.deepcopy(model)), adapted)
    model.save_pretrained(tmp_path)
    for low_cpu_mem_usage in (False, True):
        loaded = PeftModel.from_pretrained(
            base(kind), tmp_path, low_cpu_mem_usage=low_cpu_mem_usage
        )
        assert torch.equal(logits(loaded.eval()), adapted)


@kinds
@ours
def test_the_adapter_acts_as_its_factors_say(method, kind):
    model = attach(method, kind)
    train(model.train())
    for layer in adapted_layers(model.eval()).values():
        x = torch.randn(5, layer.in_features, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            change = layer(x) - layer.base_layer(x)
            torch.testing.assert_close(change, x @ delta(layer, "default").T, rtol=1e-4, atol=1e-5)


@kinds
@ours
def test_merging_is_refused(method, kind):
    model = attach(method, kind)
    for merge in (model.merge_adapter, model.merge_and_unload):
        with pytest.raises(ModelError, match=r"the weight is quantised .* export with rankwise"):
            merge()


@kinds
@methods
def test_merged_weights_are_not_exported(method, kind, tmp_path):
    with pytest.raises(ModelError, match=r"q_proj is quantised .* --target lora"):
        export_merged(attach(method, kind), tmp_path / "out")


@kinds
@methods
def test_a_plain_lora_leaves_and_computes_the_same(method, kind, tmp_path):
    model = attach(method, kind)
    keep_differentiable(model)
    train(model.train())
    expected = logits(model.eval())
    export_lora(model, tmp_path / "lora")
    loaded = PeftModel.from_pretrained(base(kind), tmp_path / "lora").eval()
    keep_differentiable(loaded)  # packing rounds the scales of 4-bit weights
    torch.testing.assert_close(logits(loaded), expected, rtol=1e-4, atol=1e-4)


@kinds
@methods
def test_the_update_init_writes_the_gradients_directions(method, kind):
    model = attach(method, kind)
    before = frozen_bytes(model)
    measure = method != "delora"  # what trains there is not known as a share of the gradient
    report = initialize(model, UpdateApproximation(lr=1e-3), [batch()], measure=measure)
    if measure:
        assert all(start.captured_after > start.captured_before for start in report.layers)
    assert frozen_bytes(model) == before
    train(model.train())


@kinds
def test_the_full_gradient_is_that_of_the_dequantised_weight(kind):
    model, twin = attach("lora", kind), dequantised_twin(attach("lora", kind))
    keep_differentiable(model)
    # int8 layers of bitsandbytes also round their inputs.
    tolerance = 0.1 if kind == "int8" else 1e-3
    expected = gradients(twin)
    for name, gradient in gradients(model).items():
        assert (gradient - expected[name]).norm() <= tolerance * expected[name].norm(), name


def dequantised_twin(model: nn.Module) -> nn.Module:
    """Exchange each quantised layer by a plain one with the same weight."""
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if backend_of(child) is not None and not isinstance(child, BaseTunerLayer):
                plain = nn.Linear(child.in_features, child.out_features, bias=False)
                plain.weight.data = backend_of(child).get_base_weight(child).float()
                setattr(module, name, plain.requires_grad_(False))
    return model


def gradients(model: nn.Module) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    layers = {name: each.get_base_layer() for name, each in adapted_layers(model).items()}
    capture_gradients(model, layers, batches=[batch()], consume=found.__setitem__)
    return found


@kinds
@methods
def test_the_boundary_init_lowers_its_loss(method, kind):
    model = attach(method, kind)
    before = frozen_bytes(model)
    init = BoundaryMatching(margin=0.5, steps=4, lr=1e-3)
    report = initialize(model, init, [batch()])
    assert report.outcome.losses[-1] < report.outcome.losses[0]
    assert frozen_bytes(model) == before


def assert_same_outputs(kind, actual, expected) -> None:
    """But for a tenth of the positions where layers round their inputs to int8.

    Sums in another order move an input over the middle between two steps now and then.
    """
    is_close = torch.isclose(actual, expected, rtol=1e-4, atol=1e-4).all(dim=-1)
    assert is_close.float().mean() >= (0.9 if kind == "int8" else 1)
    torch.testing.assert_close(actual, expected, rtol=0, atol=0.1)


@kinds
@pytest.mark.parametrize("side", ["left", "right", "both"])
def test_a_chain_keeps_its_history_beside_the_weight(kind, side, tmp_path):
    model = attach("lora", kind)
    before = frozen_bytes(model)
    chain = Chain(model, side=side)
    with model.disable_adapter():
        pretrained = logits(model.eval())
    for _ in range(2):
        train(model.train())
        learned = logits(model.eval())
        chain.fold()
        torch.testing.assert_close(logits(model), learned, rtol=1e-4, atol=1e-4)
        with model.disable_adapter():
            assert torch.equal(logits(model), pretrained)
    train(model.train())
    learned = logits(model.eval())
    chain.save(tmp_path)
    twin = attach("lora", kind)
    again = Chain(twin, side=side)
    again.load(tmp_path)
    assert torch.equal(logits(twin.eval()), learned)
    assert torch.equal(logits(copy.deepcopy(twin)), learned)
    again.finish()

    report = chain.finish()
    assert (report.blocks, report.rank) == (3, 12)
    assert_same_outputs(kind, logits(model), learned)
    assert frozen_bytes(model) == before
    export_lora(model, tmp_path / "lora")
    loaded = PeftModel.from_pretrained(base(kind), tmp_path / "lora").eval()
    keep_differentiable(loaded)  # packing rounds the scales of 4-bit weights
    assert_same_outputs(kind, logits(loaded), learned)


@kinds
@ours
def test_a_chain_of_our_adapters_keeps_its_history_beside_the_weight(kind, method, tmp_path):
    model = attach(method, kind)
    before = frozen_bytes(model)
    chain = Chain(model)
    with model.disable_adapter():
        pretrained = logits(model.eval())
    assert torch.equal(logits(model), pretrained)
    train(model.train())
    learned = logits(model.eval())
    chain.fold()
    torch.testing.assert_close(logits(model), learned, rtol=1e-4, atol=1e-4)
    with model.disable_adapter():
        assert torch.equal(logits(model), pretrained)
    train(model.train())
    learned = logits(model.eval())
    chain.save(tmp_path)
    twin = attach(method, kind)
    again = Chain(twin)
    again.load(tmp_path)
    assert torch.equal(logits(twin.eval()), learned)

    chain.finish()
    torch.testing.assert_close(logits(model), learned, rtol=1e-4, atol=1e-4)
    assert frozen_bytes(model) == before
    export_lora(model, tmp_path / "lora")
    loaded = PeftModel.from_pretrained(base(kind), tmp_path / "lora").eval()
    keep_differentiable(loaded)  # packing rounds the scales of 4-bit weights
    torch.testing.assert_close(logits(loaded), learned, rtol=1e-4, atol=1e-4)


@kinds
def test_a_chain_over_gradient_sketches(kind):
    model = attach("lora", kind)

    def sketch_gradients(layers, *, consume):
        capture_gradients(model, layers, batches=[batch()], consume=consume)

    with Chain(model, sketch="gradient", gradients=sketch_gradients) as chain:
        train(model.train())
        chain.fold()
        losses = train(model.train(), steps=3)
    assert losses[-1] < losses[0]


def test_a_packed_weight_is_refused_because_it_passes_no_gradients():
    plain = base("nf4")
    for layer in plain.modules():
        if isinstance(layer, Linear4bit):  # as an eval pass does where there is AVX512-BF16
            layer.weight.quant_state.packing_format_for_cpu = True
    with pytest.raises(ModelError, match=r"packed for inference .* load the model again"):
        PeftModel(plain, config("lora_xs"))


@methods
def test_gradients_pass_through_a_4_bit_base_after_evaluation(method):
    """bitsandbytes packs its weights in eval mode; then no gradient passed, without an error."""
    model = attach(method, "nf4")
    if method == "lora":
        initialize(model, UpdateApproximation(lr=1e-3), [batch()])
    layers = [layer for layer in model.modules() if isinstance(layer, Linear4bit)]
    assert not any(layer.support_avx512bf16_for_cpu for layer in layers)
    logits(model.eval())
    assert not any(is_packed(layer.weight) for layer in layers)
    first = next(iter(adapted_layers(model).values()))
    model(**batch())["loss"].backward()
    gradients = [p.grad for p in adapter_parameters(first, "default").values()]
    assert any(gradient is not None and gradient.any() for gradient in gradients)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["nf4", "int8"])
@methods
def test_trl_trains_it_although_it_casts_what_trains_to_bfloat16(method, kind, tmp_path):
    model = attach(method, kind)
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(**options(tmp_path, max_steps=2, gradient_checkpointing=None)),
        train_dataset=Dataset.from_list(
            [{"input_ids": row} for row in batch()["input_ids"].tolist()]
        ),
        processing_class=tokenizer(),
    )
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert {p.dtype for p in trained.values()} == {torch.bfloat16}
    before = {name: p.detach().clone() for name, p in trained.items()}
    trainer.train()
    assert all(p.isfinite().all() for p in trained.values())
    # A strength of 15 is too coarse in bfloat16 to be moved by steps of 0.01.
    unmoved = {name.split(".")[-3] for name, p in trained.items() if torch.equal(p, before[name])}
    assert unmoved <= {"rankwise_decoupled_lambda"}
    model.save_pretrained(tmp_path / "adapter")
    loaded = PeftModel.from_pretrained(base(kind), tmp_path / "adapter")
    torch.testing.assert_close(logits(loaded.eval()), logits(model.eval()), rtol=0.05, atol=0.05)
