import math
import warnings

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from rankwise.core.errors import (
    AdapterError,
    DataError,
    ModelError,
    SettingsError,
    TrainingError,
)
from rankwise.functional.boundary import boundary_loss
from rankwise.methods.adapters.bridge import adapted_layers
from rankwise.methods.adapters.delora import DeloraConfig
from rankwise.methods.adapters.lora_xs import LoraXSConfig
from rankwise.methods.inits.boundary import BoundaryMatching
from rankwise.methods.inits.initialize import initialize
from tests.models.architectures import llama, t5
from tests.models.batches import points, sentences, split
from tests.models.networks import classifier

from .surroundings import adapted, is_of_adapter, surroundings, values

MLP = {"target_modules": ["gate_proj", "up_proj", "down_proj"]}


def run(model, batches, **options):
    return initialize(model, BoundaryMatching(**options), batches).outcome


def adapter(model, name="default"):
    return {key: value for key, value in values(model).items() if is_of_adapter(key, name)}


def pre_activations(model, batch):
    """The inputs of both activations of the plain network, written out."""
    inner = model.base_model.model
    first = inner.first(batch["x"])
    return [first, inner.second(first.relu())]


def trained_reference(directory):
    """Save an adapter whose first layer moves many signs."""
    model = adapted()
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = torch.randn(parameter.shape).double()
    model.save_pretrained(directory)
    return model


class TestTraining:
    def test_it_is_adamw_on_equation_22(self):
        model, twin, batch = adapted(), adapted(), points(6)
        outcome = run(model, [batch], steps=5, lr=0.01, last=2, margin=0.7)
        with torch.no_grad(), twin.disable_adapter():
            reference = pre_activations(twin, batch)
        parameters = [parameter for parameter in twin.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(parameters, lr=0.01, weight_decay=0.01)
        losses = []
        for _ in range(5):
            loss = boundary_loss(
                pre_activations(twin, batch), reference, margin=0.7, layer_weights=[1 / 4, 1]
            )
            losses.append(loss.item())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert outcome.losses == pytest.approx(losses, rel=1e-10)
        for name, value in adapter(twin).items():
            torch.testing.assert_close(adapter(model)[name], value)

    def test_the_loss_falls(self):
        outcome = run(adapted(), [points(6)], steps=20, lr=0.01)
        assert outcome.losses[-1] < 0.9 * outcome.losses[0]

    def test_batches_are_gone_through_in_order_and_again(self):
        batches = split(points(7), 4, 3)
        cycled, written_out = adapted(), adapted()
        first = run(cycled, batches, steps=5, lr=0.01)
        second = run(written_out, [*batches, *batches, batches[0]], steps=5, lr=0.01)
        assert first.losses == second.losses
        assert (first.samples, second.samples) == (7, 18)

    def test_batches_beyond_the_steps_are_not_read_or_counted(self):
        broken = {"x": "not a tensor"}
        assert run(adapted(), [points(3), broken], steps=1).samples == 3

    def test_dropout_is_off(self):
        noisy = adapted(classifier(dropout=0.5), lora_dropout=0.5).train()
        quiet = adapted(classifier(dropout=0.0))
        assert run(noisy, [points(6)], steps=4) == run(quiet, [points(6)], steps=4)

    def test_frozen_parts_of_the_adapter_stay(self):
        model = adapted()
        for name, parameter in model.named_parameters():
            if "lora_A" in name:
                parameter.requires_grad_(False)
        before = adapter(model)
        run(model, [points(6)], steps=3)
        for name, value in adapter(model).items():
            assert torch.equal(value, before[name]) == ("lora_A" in name)

    def test_only_the_named_adapter_acts_and_changes(self):
        model, alone = adapted(), adapted()
        torch.manual_seed(7)
        model.add_adapter("other", model.peft_config["default"])
        for parameter in adapter_parameters(model, "other"):
            parameter.data.fill_(0.5)
        model.base_model.set_adapter(["default", "other"])
        others = adapter(model, "other")
        assert run(model, [points(6)], steps=3) == run(alone, [points(6)], steps=3)
        for name, value in adapter(model, "other").items():
            assert torch.equal(value, others[name])

    def test_a_core_between_frozen_factors_can_be_trained(self):
        model = adapted(config=LoraXSConfig(r=2, target_modules=["first", "second"]))
        before = adapter(model)
        run(model, [points(6)], steps=3, lr=0.01)
        for name, value in adapter(model).items():
            assert torch.equal(value, before[name]) == ("xs_R" not in name)

    def test_delora_turns_its_directions_and_its_strength_does_not_decay(self):
        config = DeloraConfig(r=2, target_modules=["first", "second"])
        model = adapted(config=config)
        still = run(model, [points(6)], steps=20, lr=1e-9, weight_decay=1e6)
        strengths = [layer.parts("default")[2].item() for layer in adapted_layers(model).values()]
        assert strengths == pytest.approx([15.0, 15.0], rel=1e-6)
        assert still.reference == "pretrained"
        outcome = run(adapted(config=config), [points(6)], steps=20, lr=0.01)
        assert outcome.losses[-1] < 0.9 * outcome.losses[0]

    def test_forward_passes_end_after_the_last_monitored_layer(self):
        model, ends = adapted(llama(), **MLP), []
        model.base_model.model.model.norm.register_forward_hook(lambda *_: ends.append(1))
        run(model, [sentences(2)], steps=4)
        assert len(ends) == 1  # the one that looks for the layers


def adapter_parameters(model, name):
    return [each for key, each in model.named_parameters() if is_of_adapter(key, name)]


class TestPadding:
    @pytest.mark.parametrize("feed_forward", ["relu", "gated-gelu"])
    def test_encoder_and_decoder_padding_changes_nothing(self, feed_forward):
        labels = torch.tensor([[3, 4, 5], [6, 1, -100]])
        batch = {**sentences(2), "labels": labels}
        padded = {
            "input_ids": nn.functional.pad(batch["input_ids"], (0, 4), value=9),
            "attention_mask": nn.functional.pad(batch["attention_mask"], (0, 4)),
            "labels": nn.functional.pad(labels, (0, 2), value=-100),
        }
        outcomes = [
            run(
                adapted(t5(feed_forward_proj=feed_forward), target_modules="all-linear"),
                [each],
                steps=4,
                lr=0.01,
            )
            for each in (batch, padded)
        ]
        assert outcomes[0].losses == pytest.approx(outcomes[1].losses, rel=1e-4)
        assert len(outcomes[0].monitored) == 3

    def test_it_does_not_count_in_a_decoder_either(self):
        batch = sentences(3)
        other = {**batch, "input_ids": batch["input_ids"] + 5 * (1 - batch["attention_mask"])}
        assert not torch.equal(batch["input_ids"], other["input_ids"])
        first, second = (run(adapted(llama(), **MLP), [each], steps=3) for each in (batch, other))
        assert first.losses == pytest.approx(second.losses, rel=1e-5)

    def test_a_batch_of_padding_alone_is_refused(self):
        batch = sentences(2)
        batch["attention_mask"][:] = 0
        with pytest.raises(ValueError, match="no position counts"):
            run(adapted(llama(), **MLP), [batch])


class TestPretrainedReference:
    def test_a_fresh_adapter_agrees_in_every_sign(self):
        outcome = run(adapted(), [points(6)], steps=1)
        assert outcome.reference == "pretrained"
        assert [layer.match_before for layer in outcome.monitored] == [1.0]

    def test_a_margin_of_zero_changes_nothing_and_says_so(self):
        model = adapted()
        before = values(model)
        with pytest.warns(UserWarning, match="every pre-activation kept its margin already"):
            outcome = run(model, [points(6)], steps=3, margin=0.0)
        assert outcome.losses == (0.0, 0.0, 0.0)
        assert outcome.steps == 0
        for name, value in values(model).items():
            assert torch.equal(value, before[name])

    def test_a_run_that_does_something_warns_of_nothing(self):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert run(adapted(), [points(6)], steps=3).steps == 3

    def test_an_adapter_that_moved_signs_is_drawn_back(self):
        model = adapted()
        for parameter in adapter_parameters(model, "default"):
            parameter.data.add_(0.3)
        (layer,) = run(model, [points(20)], steps=60, lr=0.01, margin=0.1).monitored
        assert layer.name == "gelu"
        assert layer.match_before < layer.match_after <= 1


class TestAdapterReference:
    def test_a_directory_is_matched_and_leaves_no_trace(self, tmp_path):
        teacher = trained_reference(tmp_path)
        model = adapted()
        before = surroundings(model)
        outcome = run(model, [points(20)], steps=40, lr=0.02, margin=0.1, reference=tmp_path)
        assert surroundings(model) == before
        assert outcome.reference == "adapter"
        (layer,) = outcome.monitored
        assert layer.match_before < layer.match_after
        batch, before_training = points(20), adapted()
        agree = [
            (pre_activations(each, batch)[1] > 0) == (pre_activations(teacher, batch)[1] > 0)
            for each in (before_training, model)
        ]
        assert [each.double().mean().item() for each in agree] == pytest.approx(
            [layer.match_before, layer.match_after]
        )

    def test_an_adapter_of_the_model_can_be_named(self, tmp_path):
        trained_reference(tmp_path)
        named, loaded = adapted(), adapted()
        named.load_adapter(tmp_path, "teacher")
        options = {"steps": 3, "lr": 0.01}
        assert run(named, [points(6)], reference="teacher", **options) == run(
            loaded, [points(6)], reference=str(tmp_path), **options
        )
        assert sorted(named.peft_config) == ["default", "teacher"]

    def test_layers_that_only_the_reference_adapts_are_unwrapped_again(self, tmp_path):
        trained_reference(tmp_path)
        model = adapted(target_modules=["second"])
        before = surroundings(model)
        outcome = run(model, [points(6)], steps=2, reference=tmp_path, layers=["first", "second"])
        assert surroundings(model) == before
        assert type(model.base_model.model.first) is nn.Linear
        assert outcome.monitored[0].match_before < 1

    def test_a_missing_directory_is_refused(self, tmp_path):
        with pytest.raises(AdapterError, match=r"no adapter_config.json in .*nowhere"):
            run(adapted(), [points(6)], reference=tmp_path / "nowhere")

    @pytest.mark.parametrize("flaw", ["shape", "missing tensor", "broken file"])
    def test_an_adapter_that_does_not_fit_is_refused_and_leaves_no_trace(self, tmp_path, flaw):
        trained_reference(tmp_path)
        file = tmp_path / "adapter_model.safetensors"
        tensors = load_file(file)
        name = next(iter(tensors))
        match flaw:
            case "shape":
                save_file({**tensors, name: torch.ones(2, 5)}, file)
            case "missing tensor":
                save_file({key: tensors[key] for key in tensors if key != name}, file)
            case "broken file":
                file.write_bytes(file.read_bytes()[:20])
        model = adapted(target_modules=["second"])
        before = surroundings(model)
        with pytest.raises(AdapterError, match=r"does not fit the model|is damaged"):
            run(model, [points(6)], reference=tmp_path)
        assert surroundings(model) == before

    def test_the_adapter_itself_is_no_reference(self):
        with pytest.raises(SettingsError, match="must differ from the adapter to initialise"):
            run(adapted(), [points(6)], reference="default")


class TestRefusals:
    def test_a_model_without_activation_modules(self):
        base = nn.Sequential(nn.Linear(4, 4), nn.Tanh())
        model = adapted(base, target_modules=["0"])
        with pytest.raises(ModelError, match="no activation module was found"):
            initialize(
                model,
                BoundaryMatching(),
                [points(2)],
                loss=lambda model, batch: model(batch["x"].float()),
            )

    def test_activations_that_are_not_finite(self):
        batch = points(3)
        batch["x"][0, 0] = torch.inf
        with pytest.raises(TrainingError, match="the activations of gelu are not finite"):
            run(adapted(), [batch])

    def test_an_adapter_behind_the_monitored_layers(self):
        with pytest.raises(ModelError, match="no monitored layer depends on the adapter"):
            run(adapted(target_modules=["head"]), [points(3)])

    def test_an_adapter_that_does_not_train(self):
        model = adapted()
        model.requires_grad_(False)
        with pytest.raises(ModelError, match="no parameter of adapter 'default' trains"):
            run(model, [points(3)])

    def test_a_batch_that_is_no_mapping(self):
        with pytest.raises(
            DataError, match="must be a mapping of the model's arguments, got tuple"
        ):
            run(adapted(), [tuple(points(3).values())])

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"margin": -1}, "margin must be 0 or more, got -1"),
            ({"margin": math.nan}, "margin must be 0 or more, got nan"),
            ({"lr": 0}, "lr must be positive and finite, got 0"),
            ({"weight_decay": -0.1}, "weight_decay must be 0 or more"),
            ({"power": -2}, "power must be 0 or more"),
            ({"steps": 0}, "steps must be 1 or more, got 0"),
            ({"last": 0}, "last must be 1 or more, got 0"),
            ({"reduction": "max"}, "reduction must be 'mean' or 'sum', got 'max'"),
            ({"layers": []}, "layers names all that is monitored"),
            ({"layers": ["first"], "last": 2}, "layers names all that is monitored"),
        ],
    )
    def test_wrong_settings(self, options, message):
        with pytest.raises(SettingsError, match=message):
            BoundaryMatching(**options)


def test_two_models_initialised_at_once_do_not_interact():
    inner, outer, alone = adapted(), adapted(), adapted()
    nested = []

    def loss(model, batch):
        if not nested:
            nested.append(run(inner, [points(6)], steps=3))
        return model(**batch)["loss"]

    outcome = initialize(outer, BoundaryMatching(steps=3), [points(6)], loss=loss).outcome
    assert outcome == nested[0] == run(alone, [points(6)], steps=3)


def test_any_batch_works_with_a_loss_of_ones_own():
    loss = lambda model, batch: model(batch[0])  # noqa: E731
    options = BoundaryMatching(steps=3)
    own = initialize(adapted(), options, [tuple(points(6).values())], loss=loss)
    assert own.outcome == run(adapted(), [points(6)], steps=3)


def test_a_sum_over_neurons_is_larger_by_their_number():
    mean, total = (
        run(adapted(), [points(6)], steps=1, reduction=each).losses[0] for each in ("mean", "sum")
    )
    assert total == pytest.approx(8 * mean)


class TestCost:
    def test_the_reference_sees_each_batch_once_and_every_pass_ends_early(self):
        model, batches = adapted(), split(points(6), 2, 2, 2)
        calls, ends = [], []
        model.base_model.model.first.register_forward_hook(lambda *_: calls.append(1))
        model.base_model.model.head.register_forward_hook(lambda *_: ends.append(1))
        run(model, batches, steps=7, lr=1.0)
        # Finding what to monitor, the references, the agreement before and after, and the steps.
        assert len(calls) == 1 + 3 + 2 + 7
        assert len(ends) == 1

    def test_the_numbers_that_a_step_waits_for_do_not_grow_with_the_layers(self):
        # On a CPU the optimizer reads one number a parameter.
        assert _readings(last=1) == _readings(last=3) <= 3 + 18


def _readings(last: int) -> int:
    """How often a step reads a number, which on an accelerator waits for all before it."""
    counts = []
    for steps in (2, 3):
        model, batch = adapted(llama(), **MLP), sentences(4)
        with CountReadings() as counted:
            run(model, [batch], steps=steps, last=last, lr=1e-2)
        counts.append(counted.readings)
    return counts[1] - counts[0]


class CountReadings(TorchDispatchMode):
    readings = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        self.readings += operation is torch.ops.aten._local_scalar_dense.default
        return operation(*args, **(kwargs or {}))
