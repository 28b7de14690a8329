import json

import pytest
import torch
from peft import LoraConfig

from rankwise.core.errors import DataError, ModelError, TrainingError
from rankwise.methods.adapters.bridge import adapted_layers, delta
from rankwise.methods.adapters.delora import DeloraConfig
from rankwise.methods.adapters.lora_xs import LoraXSConfig
from rankwise.methods.inits.boundary import BoundaryMatching
from rankwise.methods.inits.initialize import initialize
from rankwise.methods.inits.update import UpdateApproximation
from tests.models.batches import points, split
from tests.models.chains import build, inputs
from tests.models.networks import classifier

from .surroundings import adapted, is_of_adapter, surroundings, values

TARGETS = ["first", "second"]
INITS = {
    "update": UpdateApproximation(lr=0.1),
    "boundary": BoundaryMatching(steps=3),
}
each_init = pytest.mark.parametrize("init", INITS.values(), ids=INITS)


def lived_in_model():
    """A model in a state that is easily lost: modes, frozen parts, gradients, two adapters."""
    model = adapted(classifier(dropout=0.5))
    model.add_adapter("other", LoraConfig(r=2, target_modules=TARGETS))
    model.set_adapter("default")
    model.train()
    model.base_model.model.second.eval()
    model.base_model.model.head.requires_grad_(True)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.ones_like(parameter)
    return model


class TestNoTrace:
    @each_init
    def test_only_the_adapter_changes(self, init):
        model = lived_in_model()
        before, around = values(model), surroundings(model)
        initialize(model, init, split(points(6), 4, 2))
        assert surroundings(model) == around
        changed = {
            name for name, value in values(model).items() if not torch.equal(value, before[name])
        }
        assert changed == {name for name in before if is_of_adapter(name)}

    @each_init
    @pytest.mark.parametrize("fails_at", ["first forward pass", "written layer"])
    def test_an_error_leaves_the_adapter_as_it_was_too(self, init, fails_at):
        model, loss = lived_in_model(), fail_at_once
        before, around = values(model), surroundings(model)
        if fails_at == "written layer":
            loss = fail_when_written
            if isinstance(init, UpdateApproximation):  # one pass a layer
                init = UpdateApproximation(lr=0.1, gradient_memory=8 * 8 * 8)
        with pytest.raises(KeyError, match="mid-way"):
            initialize(model, init, split(points(6), 4, 2), loss=loss)
        assert surroundings(model) == around
        for name, value in values(model).items():
            assert torch.equal(value, before[name])

    @each_init
    def test_the_same_start_comes_out_whatever_the_random_state(self, init):
        first, second = adapted(), adapted()
        initialize(first, init, [points(6)])
        torch.manual_seed(99)
        initialize(second, init, [points(6)])
        for name, value in values(first).items():
            assert torch.equal(values(second)[name], value)

    @each_init
    def test_an_inactive_adapter_can_be_initialised(self, init):
        model, active = lived_in_model(), adapted(classifier(dropout=0.5))
        model.set_adapter("other")
        if isinstance(init, BoundaryMatching):  # trains what trains
            model.set_requires_grad("default", True)
        initialize(model, init, [points(6)])
        initialize(active, init, [points(6)])
        assert model.active_adapter == "other"
        for name, value in values(active).items():
            assert torch.equal(values(model)[name], value)


def fail_at_once(model, batch):
    raise KeyError("mid-way")


def fail_when_written(model, batch):
    if model.base_model.model.first.lora_B["default"].weight.any():
        raise KeyError("mid-way")
    return model(**batch)["loss"]


class TestReport:
    @each_init
    def test_it_says_what_every_layer_begins_at(self, init):
        model = adapted(rank_pattern={"second": 3})
        report = initialize(model, init, split(points(6), 4, 2))
        assert report.init == type(init).__name__
        assert report.adapter_name == "default"
        assert report.outcome.samples == 6
        assert report.seconds > 0
        layers = adapted_layers(model)
        assert [(layer.name, layer.rank) for layer in report.layers] == list(zip(layers, (2, 3)))
        for start, layer in zip(report.layers, layers.values(), strict=True):
            ratio = delta(layer, "default").norm() / layer.get_base_layer().weight.norm()
            assert start.relative_strength == pytest.approx(ratio.item())
            assert start.captured_before is None

    @each_init
    def test_it_is_plain_json(self, init):
        base = classifier()
        base.first.weight.data.zero_()  # so that a ratio is not finite
        base.first.bias.data.fill_(0.1)
        report = initialize(adapted(base, target_modules=["second", "first"]), init, [points(6)])
        content = json.loads(json.dumps(report.to_dict(), allow_nan=False))
        assert content["init"] == type(init).__name__
        assert content["samples"] == 6
        assert content["layers"][0]["relative_strength"] is None
        assert content["layers"][1]["relative_strength"] > 0

    @each_init
    def test_the_strength_of_transposed_layers_is_that_of_their_change(self, init):
        if isinstance(init, BoundaryMatching):
            init = BoundaryMatching(steps=3, lr=0.1, layers=["second"])
        model = build()
        report = initialize(model, init, [{"x": inputs(), "labels": torch.arange(9) % 5}])
        for start, layer in zip(report.layers, adapted_layers(model).values(), strict=True):
            ratio = delta(layer, "default").norm() / layer.get_base_layer().weight.norm()
            assert start.relative_strength == pytest.approx(ratio.item(), rel=1e-4)
            assert start.relative_strength > 0


class TestMeasure:
    def test_a_raw_update_captures_all_of_a_gradient_of_its_rank(self):
        model = adapted(target_modules=["first"])  # one sample: a gradient of rank 1
        init = UpdateApproximation(lr=1e-9, mode="raw")
        report = initialize(model, init, [points(1)], measure=True)
        (layer,) = report.layers
        assert layer.captured_before is not None
        assert 0 < layer.captured_before < 0.99
        assert layer.captured_after == pytest.approx(1, abs=1e-6)

    @pytest.mark.parametrize("frozen", ["lora_A", "lora_B"])
    def test_frozen_factors_capture_less(self, frozen):
        free, half = adapted(), adapted()
        for name, parameter in half.named_parameters():
            if frozen in name:
                parameter.requires_grad_(False)
        whole, part = (
            initialize(model, INITS["update"], [points(6)], measure=True) for model in (free, half)
        )
        for more, less in zip(whole.layers, part.layers, strict=True):
            assert more.captured_after > less.captured_after > 0
        if frozen == "lora_A":  # B = 0: dA moves nothing, and only what trains counts
            assert [each.captured_before for each in whole.layers] == [
                each.captured_before for each in part.layers
            ]
        else:
            assert [each.captured_before for each in part.layers] == [0, 0]

    def test_a_core_captures_what_lies_between_its_factors(self):
        model = adapted(config=LoraXSConfig(r=2, target_modules=["first"]))
        init = UpdateApproximation(lr=1e-9, mode="raw")
        (layer,) = initialize(model, init, [points(1)], measure=True).layers
        assert layer.captured_before < 0.9
        # The core of a rank-1 update has rank 1, and with it all of the gradient.
        assert layer.captured_after == pytest.approx(1, abs=1e-6)

    def test_adapters_whose_tangents_are_unknown_are_refused(self):
        model = adapted(config=DeloraConfig(r=2, target_modules=TARGETS))
        with pytest.raises(ModelError, match=r"measure: what .*first .DeloraLinear. can follow"):
            initialize(model, INITS["update"], [points(6)], measure=True)


class TestRefusals:
    @each_init
    def test_no_batches(self, init):
        with pytest.raises(DataError, match="batches is empty: pass at least one batch"):
            initialize(adapted(), init, [])

    @each_init
    def test_a_generator_works_as_well_as_a_list(self, init):
        listed, generated = adapted(), adapted()
        initialize(listed, init, split(points(6), 4, 2))
        initialize(generated, init, (each for each in split(points(6), 4, 2)))
        for name, value in values(listed).items():
            assert torch.equal(values(generated)[name], value)

    @pytest.mark.parametrize("init", [UpdateApproximation, "update", None])
    def test_what_is_no_initialization(self, init):
        with pytest.raises(TypeError, match="init must be UpdateApproximation"):
            initialize(adapted(), init, [points(6)])

    def test_a_model_without_the_adapter(self):
        with pytest.raises(ModelError, match="carries an adapter named 'task'"):
            initialize(adapted(), INITS["update"], [points(6)], adapter_name="task")

    def test_an_adapter_whose_change_is_no_product_of_factors(self):
        model = adapted(use_dora=True)
        with pytest.raises(ModelError, match="whose change is not B A"):
            initialize(model, INITS["boundary"], [points(6)])

    @each_init
    @pytest.mark.parametrize(
        "options", [{"lora_alpha": 0}, {"lora_alpha": -3}, {"alpha_pattern": {"second": -1}}]
    )
    def test_a_scaling_that_is_not_positive(self, init, options):
        model = adapted(**options)
        before = values(model)
        with pytest.raises(ModelError, match=r"scaling of adapter 'default' must be positive and"):
            initialize(model, init, [points(6)])
        for name, value in values(model).items():
            assert torch.equal(value, before[name])

    def test_a_start_that_the_factors_cannot_hold_leaves_the_adapter_as_it_was(self):
        model = adapted()
        for name, parameter in model.named_parameters():
            if is_of_adapter(name):
                parameter.data = parameter.data.half()
        before = values(model)
        with pytest.raises(
            TrainingError, match=r"first is not finite in its factors' torch.float16"
        ):
            initialize(model, UpdateApproximation(lr=1e12), [points(6)])
        for name, value in values(model).items():
            assert torch.equal(value, before[name])

    @each_init
    def test_a_merged_adapter(self, init):
        model = adapted()
        model.merge_adapter()
        with pytest.raises(ModelError, match="has merged adapters: call unmerge_adapter"):
            initialize(model, init, [points(6)])
