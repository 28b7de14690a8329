"""What an init meets beside a plain model in a plain state, and leaves as it found it."""

from __future__ import annotations

import io
import itertools
import sys

import pytest
import torch
from accelerate import cpu_offload
from peft import LoraConfig, get_peft_model
from torch import nn

from rankwise.core.errors import DataError, ModelError
from rankwise.methods.adapters.bridge import adapted_layers
from rankwise.methods.adapters.lora_xs import LoraXSConfig
from rankwise.methods.inits.boundary import BoundaryMatching
from rankwise.methods.inits.initialize import initialize
from rankwise.methods.inits.update import UpdateApproximation
from tests.models.architectures import llama
from tests.models.networks import classifier

TARGETS = ["first", "second"]
INITS = {"update": UpdateApproximation(lr=1e-2), "boundary": BoundaryMatching(steps=2)}
each_init = pytest.mark.parametrize("init", INITS.values(), ids=INITS)


def adapted(base=None, **options):
    torch.manual_seed(1)
    options = {"r": 2, "target_modules": TARGETS, **options}
    return get_peft_model(base or classifier(), LoraConfig(**options))


def inputs(rows=5, seed=2):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, 4, generator=generator, dtype=torch.float64)


def squares(model, x):
    return model(x)["logits"].square().sum()


def sentences(rows=3, length=6):
    generator = torch.Generator().manual_seed(3)
    tokens = torch.randint(1, 17, (rows, length), generator=generator)
    return {"input_ids": tokens, "attention_mask": torch.ones_like(tokens), "labels": tokens}


@each_init
def test_a_head_beside_the_model_gets_no_gradient_and_none_of_its_hooks_is_called(init):
    model, head, calls = adapted(), nn.Linear(3, 1).double(), []
    head.weight.grad = torch.full_like(head.weight, 0.5)
    head.weight.register_hook(lambda _: calls.append("gradient"))
    head.weight.register_post_accumulate_grad_hook(lambda _: calls.append("accumulated"))
    initialize(model, init, [inputs()], loss=lambda m, x: head(m(x)["logits"]).square().sum())
    assert torch.equal(head.weight.grad, torch.full_like(head.weight, 0.5))
    assert head.bias.grad is None
    assert not calls


def test_what_comes_before_the_model_is_passed_by_too():
    prompt = nn.Linear(4, 4).double()
    found = {}
    for name, trains in (("frozen", False), ("trained", True)):
        prompt.requires_grad_(trains)
        found[name] = adapted()
        initialize(
            found[name], INITS["update"], [inputs()], loss=lambda m, x: squares(m, prompt(x))
        )
        assert prompt.weight.grad is None
    for one, other in zip(found["frozen"].parameters(), found["trained"].parameters(), strict=True):
        assert torch.equal(one, other)


@each_init
def test_a_batch_that_requires_gradients_gets_none(init):
    x = inputs().requires_grad_()
    initialize(adapted(), init, [x], loss=squares)
    assert x.grad is None
    assert x.requires_grad


@each_init
def test_hooks_of_the_adapters_parameters_are_not_called(init):
    model, calls = adapted(), []
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.register_hook(lambda _: calls.append("gradient"))
            parameter.register_post_accumulate_grad_hook(lambda _: calls.append("accumulated"))
    initialize(model, init, [inputs()], loss=squares)
    assert not calls


class Observed(nn.Module):
    """Buffers that move in each forward pass, one of them by a new tensor, and a number."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(4, 8), nn.Linear(8, 3)
        self.relu, self.norm = nn.ReLU(), nn.BatchNorm1d(8)
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("average", torch.zeros(8))
        self.register_buffer("seen", torch.zeros(2))
        self.passes = 0

    def forward(self, x):
        self.calls += 1
        self.passes += 1
        hidden = self.first(x)
        self.average = 0.9 * self.average + 0.1 * hidden.detach().mean(dim=0)
        self.seen.resize_(self.passes + 2).zero_()
        self.made = hidden
        return {"logits": self.second(self.relu(self.norm(hidden)))}


@each_init
def test_buffers_and_attributes_that_move_in_a_forward_pass_are_put_back(init):
    model = adapted(Observed().double())
    network = model.base_model.model
    buffers = dict(network.named_buffers())
    before = {name: buffer.clone() for name, buffer in buffers.items()}

    def loss_in_train_mode(m, x):
        m.train()
        return squares(m, x)

    model.eval()
    initialize(model, init, [inputs()] * 2, loss=loss_in_train_mode)
    for name, buffer in network.named_buffers():
        assert buffer is buffers[name]
        assert torch.equal(buffer, before[name])
    assert network.passes == 0
    assert not hasattr(network, "made")
    assert not any(module.training for module in model.modules())


@each_init
def test_lazy_modules_are_refused(init):
    base = classifier()
    base.head = nn.LazyLinear(3, dtype=torch.float64)
    with pytest.raises(ModelError, match=r"head.weight has no shape yet .a lazy module.: run the"):
        initialize(adapted(base), init, [inputs()], loss=squares)


@each_init
@pytest.mark.parametrize("around", [torch.no_grad, torch.inference_mode])
def test_it_runs_where_gradients_are_off(init, around):
    expected, model = adapted(), adapted()
    initialize(expected, init, [inputs()], loss=squares)
    with around():
        x = inputs()
        initialize(model, init, [x], loss=squares)
        assert not torch.is_grad_enabled()
    for one, other in zip(model.parameters(), expected.parameters(), strict=True):
        assert torch.equal(one, other)


def test_parameters_made_in_inference_mode_are_refused():
    with torch.inference_mode():
        base = classifier()
    with pytest.raises(ModelError, match=r"was made inside torch.inference_mode"):
        initialize(adapted(base), INITS["update"], [inputs()], loss=squares)


@each_init
def test_offloaded_weights_are_taken_out_again(init):
    def make():
        torch.manual_seed(1)
        return get_peft_model(llama(), LoraConfig(r=2, target_modules=["q_proj", "up_proj"]))

    plain, model = make(), make()
    for layer in adapted_layers(model).values():
        cpu_offload(layer.get_base_layer(), execution_device=torch.device("cpu"))
    expected = initialize(plain, init, [sentences()])
    offloaded = {name for name, p in model.named_parameters() if p.is_meta}
    assert offloaded
    report = initialize(model, init, [sentences()])
    assert {name for name, p in model.named_parameters() if p.is_meta} == offloaded
    assert report.layers == expected.layers
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            torch.testing.assert_close(parameter, plain.get_parameter(name))


@each_init
def test_an_adapter_that_is_offloaded_itself_is_refused(init):
    model = get_peft_model(llama(), LoraConfig(r=2, target_modules=["q_proj", "up_proj"]))
    cpu_offload(model.base_model.model.model.layers, execution_device=torch.device("cpu"))
    with pytest.raises(ModelError, match="lies on the meta device, where it has no values"):
        initialize(model, init, [sentences()])


class TestBatches:
    @each_init
    def test_a_loader_that_shuffles_leaves_the_random_state_alone(self, init):
        loader = torch.utils.data.DataLoader(list(inputs(6)), batch_size=2, shuffle=True)
        model, before = adapted(), torch.get_rng_state()
        initialize(model, init, loader, loss=squares)
        assert torch.equal(torch.get_rng_state(), before)

    def test_no_more_are_read_than_the_steps_need(self):
        read = itertools.count()
        stream = (inputs(seed=next(read)) for _ in itertools.count())
        initialize(adapted(), BoundaryMatching(steps=3), stream, loss=squares)
        assert next(read) == 3

    def test_a_random_update_reads_one_of_an_endless_stream(self):
        read = itertools.count()
        stream = (inputs(seed=next(read)) for _ in itertools.count())
        initialize(adapted(), UpdateApproximation(lr=1e-2, mode="kaiming"), stream, loss=squares)
        assert next(read) == 1

    @each_init
    def test_what_a_trainer_adds_is_left_out(self, init):
        plain, more = (get_peft_model(llama(), LoraXSConfig(r=2, target_modules=["q_proj"]))
                       for _ in range(2))  # fmt: skip
        if isinstance(init, BoundaryMatching):
            init = BoundaryMatching(steps=2, lr=1.0)
        initialize(plain, init, [sentences()])
        initialize(more, init, [{**sentences(), "num_items_in_batch": torch.tensor(99)}])
        for one, other in zip(plain.parameters(), more.parameters(), strict=True):
            assert torch.equal(one, other)

    @each_init
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda b: {k: v[:0] for k, v in b.items()}, "'input_ids' is empty, of shape (0, 6)"),
            (
                lambda b: {k: v[:, :0] for k, v in b.items()},
                "'input_ids' is empty, of shape (3, 0)",
            ),
            (
                lambda b: {**b, "attention_mask": torch.zeros_like(b["input_ids"])},
                "attention_mask is 0 everywhere, so no position counts",
            ),
            (lambda b: {k: v[0] for k, v in b.items()}, "'input_ids' has shape (6,), one sample"),
            (lambda b: {**b, "text": ["a", "b", "c"]}, "'text' is a list of str: make it a tensor"),
            (lambda b: {**b, "labels": b["labels"].tolist()}, "'labels' is a list of list"),
            (lambda b: {**b, "labels": b["labels"].numpy()}, "'labels' is of NumPy"),
            (lambda b: {**b, "text": "a"}, "'text' is a string: tokenise it"),
            (
                lambda b: {k: v.to("meta") for k, v in b.items()},
                "'input_ids' lies on the meta device, where it has no values",
            ),
            (lambda _: {}, "it is empty: a batch maps the names of the model's arguments"),
            (lambda b: tuple(b.values()), "must be a mapping of the model's arguments, got tuple"),
            (lambda _: None, "must be a mapping of the model's arguments, got NoneType"),
            (
                lambda b: {**b, "inputs_embeds": torch.ones(3, 6, 8)},
                "could not be run (ValueError: You must specify exactly one of input_ids",
            ),
            (
                lambda b: {**b, "attention_mask": b["attention_mask"][:, :5]},
                "attention_mask has shape (3, 5), but input_ids (3, 6)",
            ),
            (lambda b: {**b, "labels": b["labels"][:2]}, "labels has 2 rows, but input_ids 3"),
            (lambda b: {**b, "input_ids": b["input_ids"] + 10**9}, "could not be run (IndexError"),
        ],
    )
    def test_one_that_cannot_be_run_is_named(self, init, change, message):
        model = get_peft_model(llama(), LoraConfig(r=2, target_modules=["q_proj", "up_proj"]))
        with pytest.raises(DataError) as error:
            initialize(model, init, [sentences(), change(sentences())])
        assert str(error.value).startswith("batch 2 of 2")
        assert message in str(error.value)

    @each_init
    def test_rows_instead_of_batches_are_refused(self, init):
        rows = torch.utils.data.TensorDataset(inputs())
        with pytest.raises(DataError, match="batches is a TensorDataset, a series of single rows"):
            initialize(adapted(), init, rows, loss=squares)
        with pytest.raises(DataError, match="batches must be a series of batches, got int"):
            initialize(adapted(), init, 5, loss=squares)

    @each_init
    def test_errors_of_a_loss_of_ones_own_are_left_as_they_are(self, init):
        def loss(model, x):
            raise KeyError("mine")

        with pytest.raises(KeyError, match=r"^'mine'$"):
            initialize(adapted(), init, [inputs()], loss=loss)


class TestProgress:
    @each_init
    def test_each_batch_or_step_is_told_with_the_time_that_is_left(self, init):
        told = []
        initialize(adapted(), init, [inputs()] * 2, loss=squares, progress=told.append)
        assert [(each.done, each.total) for each in told] == [(1, 2), (2, 2)]
        assert told[0].stage in ("gradients of batches", "boundary matching steps")
        assert told[0].seconds_left == told[0].seconds
        assert told[1].seconds_left == 0

    @each_init
    def test_a_bar_shows_it_on_a_terminal_and_is_taken_off(self, init, monkeypatch):
        terminal = io.StringIO()
        monkeypatch.setattr(terminal, "isatty", lambda: True)
        monkeypatch.setattr(sys, "stderr", terminal)
        initialize(adapted(), init, [inputs()] * 2, loss=squares)
        stage = "gradients of batches" if init is INITS["update"] else "boundary matching steps"
        assert f"{stage}:" in terminal.getvalue()
        assert "/2 [" in terminal.getvalue()
        assert not terminal.getvalue().rpartition("\r")[2].strip()

    def test_it_is_silent_without_a_terminal(self, capfd):
        initialize(adapted(), INITS["update"], [inputs()], loss=squares)
        assert capfd.readouterr() == ("", "")

    def test_other_values_are_refused(self):
        with pytest.raises(ValueError, match="progress must be a function, True, False or None"):
            initialize(adapted(), INITS["update"], [inputs()], loss=squares, progress="bar")


class TestUnusedLayers:
    def make(self):
        base = classifier()
        base.third = nn.Linear(4, 4).double()
        return adapted(base, target_modules=[*TARGETS, "third"])

    @pytest.mark.parametrize("mode", ["sign", "raw"])
    def test_they_keep_their_own_start_and_are_named_where_that_is_asked_for(self, mode):
        model = self.make()
        before = model.base_model.model.third.lora_A["default"].weight.clone()
        init = UpdateApproximation(lr=1e-2, mode=mode, skip_unused=True)
        report = initialize(model, init, [inputs()], loss=squares)
        assert report.outcome.unused == ("base_model.model.third",)
        assert report.to_dict()["unused"] == ["base_model.model.third"]
        third = model.base_model.model.third
        assert torch.equal(third.lora_A["default"].weight, before)
        assert not third.lora_B["default"].weight.any()
        assert model.base_model.model.first.lora_B["default"].weight.any()

    def test_they_are_an_error_by_default(self):
        with pytest.raises(ModelError, match="third has no gradient: it takes no part in the loss"):
            initialize(self.make(), INITS["update"], [inputs()], loss=squares)

    def test_so_are_all_layers_together(self):
        model, head = self.make(), nn.Linear(4, 1).double()
        init = UpdateApproximation(lr=1e-2, skip_unused=True)
        with pytest.raises(ModelError, match="no layer takes part in the loss of these batches"):
            initialize(model, init, [inputs()], loss=lambda _, x: head(x).sum())
