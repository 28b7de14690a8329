import copy

import pytest
import torch
from torch import nn

from rankwise.capture.gradients import capture_gradients
from rankwise.capture.losses import summed_loss
from rankwise.core.errors import ModelError, SettingsError, TrainingError
from tests.models.batches import points, split
from tests.two_processes import run_in_two

from .networks import bert, classifier, gpt2, llama, sentences, t5


def linear_layers(model):
    """Every matrix that a layer multiplies with; shared weights are left out."""
    return {
        name: module
        for name, module in model.named_modules()
        if (isinstance(module, nn.Linear) and "lm_head" not in name)
        or type(module).__name__ == "Conv1D"
    }


def captured(model, batches, layers=None, **options):
    gradients = {}
    capture_gradients(
        model,
        layers or linear_layers(model),
        batches=batches,
        consume=gradients.__setitem__,
        **options,
    )
    return gradients


def autograd(model, batches):
    """The gradients that autograd gives when the weights train, in the layout (out, in)."""
    model = copy.deepcopy(model).eval().requires_grad_(True)
    for batch in batches:
        summed_loss(model, batch).backward()
    return {
        name: layer.weight.grad if isinstance(layer, nn.Linear) else layer.weight.grad.T
        for name, layer in linear_layers(model).items()
    }


def assert_same(actual, expected, rtol):
    assert actual.keys() == expected.keys()
    for name, gradient in expected.items():
        error = (actual[name] - gradient).norm() / gradient.norm()
        assert error <= rtol, name


@pytest.mark.parametrize("make", [llama, gpt2, t5])
@pytest.mark.parametrize("is_frozen", [True, False])
def test_they_are_those_of_autograd(make, is_frozen):
    model, batches = make().requires_grad_(not is_frozen), split(sentences(5), 3, 2)
    assert_same(captured(model, batches), autograd(model, batches), rtol=1e-12)


@pytest.mark.parametrize(
    ("model", "batch"),
    [
        (classifier(), points(12)),
        (llama(), sentences(12)),
        (bert(), {**sentences(12), "labels": torch.arange(12) % 3}),
    ],
    ids=["plain module", "causal language model", "sequence classifier"],
)
@pytest.mark.parametrize("sizes", [(5, 5, 2), (8, 1, 3), (1,) * 12])
def test_they_do_not_depend_on_how_samples_are_split(model, batch, sizes):
    assert_same(captured(model, split(batch, *sizes)), captured(model, [batch]), rtol=1e-6)


def test_padding_does_not_matter():
    model, batch = llama(), sentences(4)
    padded = {
        "input_ids": nn.functional.pad(batch["input_ids"], (0, 3)),
        "attention_mask": nn.functional.pad(batch["attention_mask"], (0, 3)),
        "labels": nn.functional.pad(batch["labels"], (0, 3), value=-100),
    }
    assert_same(captured(model, [padded]), captured(model, [batch]), rtol=1e-6)


def test_dropout_is_off():
    assert_same(
        captured(classifier(dropout=0.5).train(), [points(8)]),
        captured(classifier(dropout=0.0), [points(8)]),
        rtol=0,
    )


def test_the_weight_in_effect_is_meant_changes_beside_it_included():
    class Adapted(nn.Module):
        def __init__(self, base):
            super().__init__()
            self.base, self.B, self.A = base, nn.Parameter(B), nn.Parameter(A)

        def forward(self, x):
            return self.base(x) + x @ self.A.T @ self.B.T

    B, A = torch.randn(6, 2).double(), torch.randn(2, 4).double()
    adapted, merged = classifier(), classifier()
    adapted.hidden = Adapted(adapted.hidden)
    merged.hidden.weight.data += B @ A
    actual = captured(adapted, [points(5)], {"hidden": adapted.hidden.base})
    expected = captured(merged, [points(5)], {"hidden": merged.hidden})
    assert_same(actual, expected, rtol=1e-12)


def test_a_layer_that_is_called_twice_gets_the_sum():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 3)

        def forward(self, x):
            return self.layer(torch.tanh(self.layer(x)))

    def loss(model, x):
        return model(x).square().sum()

    torch.manual_seed(0)
    model, x = Twice().double(), torch.randn(5, 2, 3).double()
    loss(model, x).backward()
    expected, model.layer.weight.grad = model.layer.weight.grad, None
    gradients = captured(model, [x], {"layer": model.layer}, loss=loss)
    assert_same(gradients, {"layer": expected}, rtol=1e-12)


def test_a_gradient_of_one_call_may_be_left_as_the_product_that_it_is():
    model, batch = llama(), sentences(4)
    products = {}
    assert captured(model, [batch], consume_product=products.__setitem__) == {}
    expected = captured(model, [batch])
    assert products["model.layers.0.mlp.up_proj"].left.shape[1] == batch["input_ids"].numel()
    assert_same({name: each.dense() for name, each in products.items()}, expected, rtol=1e-12)


def test_a_sum_over_calls_or_batches_is_none():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 3)

        def forward(self, x):
            return self.layer(torch.tanh(self.layer(x))).sum()

    options = {"loss": lambda model, x: model(x), "consume_product": pytest.fail}
    assert captured(Twice(), [torch.ones(2, 3)], **options).keys() == {"layer"}
    batches = [torch.ones(2, 3), torch.ones(2, 3)]
    options["loss"] = lambda model, x: model(x).sum()
    assert captured(nn.Sequential(nn.Linear(3, 3)), batches, **options).keys() == {"0"}


def test_a_product_that_is_not_finite_is_refused():
    def loss(model, x):
        return model(x).sqrt().sum()  # whose slope at 0 is infinite

    model = nn.Sequential(nn.Linear(3, 3, bias=False))
    with pytest.raises(TrainingError, match="the gradient of 0 is not finite"):
        captured(model, [torch.zeros(2, 3)], loss=loss, consume_product=pytest.fail)


def test_an_activation_that_works_in_place_does_no_harm():
    torch.manual_seed(0)
    layers = [nn.Linear(3, 4), nn.ReLU(inplace=True), nn.Linear(4, 2)]
    model, x = nn.Sequential(*layers), torch.randn(6, 3)
    gradients = captured(model, [x], {"0": model[0]}, loss=lambda model, x: model(x).sum())
    model(x).sum().backward()
    torch.testing.assert_close(gradients["0"], model[0].weight.grad)


def test_an_input_that_is_changed_in_place_after_its_use_is_refused():
    class Overwriting(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 3)

        def forward(self, x):
            y = self.layer(x)
            x.mul_(2)
            return y

    model = Overwriting()
    with pytest.raises(ModelError, match="the input of layer was changed in place"):
        captured(model, [torch.ones(1, 3)], loss=lambda model, x: model(x.clone()).sum())


def test_accumulators_of_low_precision_weights_are_float32():
    model = classifier().to(torch.bfloat16)
    batch = {**points(4), "x": points(4)["x"].to(torch.bfloat16)}
    gradients = captured(model, [batch])
    assert {gradient.dtype for gradient in gradients.values()} == {torch.float32}
    # What a bfloat16 accumulator loses: 256 + 1 = 256.
    layer = nn.Linear(1, 1, bias=False, dtype=torch.bfloat16)
    batches = [torch.tensor([[value]], dtype=torch.bfloat16) for value in (256.0, 1.0)]
    total = captured(layer, batches, {"layer": layer}, loss=lambda model, x: model(x).sum())
    assert total["layer"].item() == 257


def count_passes(model, batches, **options):
    calls = 0

    def loss(model, batch):
        nonlocal calls
        calls += 1
        return summed_loss(model, batch)

    gradients = captured(model, batches, loss=loss, **options)
    return gradients, calls / len(batches)


def test_a_memory_budget_takes_more_passes_for_the_same_gradients():
    model, batches = classifier(), split(points(6), 4, 2)  # 6x4 and 3x6 numbers of 8 bytes
    free, passes = count_passes(model, batches)
    assert passes == 1
    for memory, expected in ((192, 2), (192 + 143, 2), (192 + 144, 1)):
        tight, passes = count_passes(model, batches, memory=memory)
        assert passes == expected
        assert_same(tight, free, rtol=0)


def test_a_single_batch_needs_one_pass_whatever_the_budget():
    _, passes = count_passes(classifier(), [points(6)], memory=192)
    assert passes == 1


def test_a_budget_below_one_layer_is_refused():
    with pytest.raises(
        SettingsError, match="at least 192 bytes, which hidden needs alone, got 191"
    ):
        captured(classifier(), [points(6)], memory=191)


def test_a_layer_is_handed_on_while_the_backward_pass_of_the_last_batch_runs():
    model, events = classifier(), []

    def loss(model, batch):
        value = summed_loss(model, batch)
        value.register_hook(lambda _: events.append("backward"))
        return value

    capture_gradients(
        model,
        linear_layers(model),
        batches=split(points(4), 2, 2),
        consume=lambda name, _: events.append(name),
        loss=loss,
    )
    assert events == ["backward", "backward", "head", "hidden"]


def fingerprint(model):
    return (
        [module.training for module in model.modules()],
        [(p.requires_grad, p.grad) for p in model.parameters()],
        [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()],
        torch.get_rng_state().tolist(),
    )


def test_no_trace_is_left_also_after_an_error():
    model = classifier(dropout=0.5).train()
    model.head.requires_grad_(False)
    model.hidden.weight.grad = torch.ones_like(model.hidden.weight)
    before = fingerprint(model)

    def fail(*_):
        raise KeyError("consumer")

    captured(model, [points(3)])
    assert fingerprint(model) == before
    with pytest.raises(KeyError, match="consumer"):
        capture_gradients(model, linear_layers(model), batches=[points(3)], consume=fail)
    assert fingerprint(model) == before
    assert torch.equal(model.hidden.weight.grad, torch.ones_like(model.hidden.weight))


def test_it_works_where_gradients_are_switched_off():
    with torch.no_grad():
        gradients = captured(classifier(), [points(3)])
    assert gradients["hidden"].any()


@pytest.mark.parametrize("layer", [nn.Embedding(3, 4), nn.Conv2d(1, 1, 1), nn.LayerNorm(4)])
def test_layers_that_are_not_linear_are_refused_by_name(layer):
    with pytest.raises(ModelError, match=f"odd is a {type(layer).__name__}: .* linear layers only"):
        captured(classifier(), [points(3)], {"odd": layer})


def test_a_layer_outside_the_loss_is_refused_by_name():
    model = classifier()
    model.idle = nn.Linear(2, 2)
    with pytest.raises(ModelError, match="idle has no gradient: it takes no part in the loss"):
        captured(model, [points(3)])


def test_a_loss_that_no_layer_influences_is_refused():
    model = classifier()
    with pytest.raises(ModelError, match="the loss depends on none of the layers"):
        captured(model, [points(3)], {"idle": nn.Linear(2, 2)})


def test_a_loss_that_is_no_sum_is_refused():
    with pytest.raises(ModelError, match=r"must return one number, got shape \(3,\): sum it"):
        captured(classifier(), [points(3)], loss=lambda model, batch: model(**batch)["logits"][0])


def test_a_loss_that_is_not_finite_is_refused():
    batch = points(3)
    batch["x"][0, 0] = torch.nan
    with pytest.raises(TrainingError, match="the loss of a batch is nan"):
        captured(classifier(), [batch])


def test_a_gradient_that_is_not_finite_is_refused():
    def loss(model, batch):
        return model(**batch)["logits"].clamp(max=0).sqrt().sum().nan_to_num()

    with pytest.raises(TrainingError, match="the gradient of head is not finite"):
        captured(classifier(), [points(3)], loss=loss)


def capture_in_one_of_two(rank, _folder):
    model = nn.Sequential(nn.Linear(2, 1, bias=False), nn.Linear(1, 1, bias=False)).double()

    def loss(model, x):
        both = model[1](x[:, :1]).sum()
        return both + model[0](x).sum() if rank == 0 else both

    x = torch.full((rank + 1, 2), 3.0, dtype=torch.float64)
    gradients = {}
    capture_gradients(
        model,
        {"one": model[0], "both": model[1]},
        batches=[x] * (rank + 1),
        consume=gradients.__setitem__,
        loss=loss,
    )
    return {name: gradient.tolist() for name, gradient in gradients.items()}


@pytest.mark.processes
def test_processes_share_the_sum_also_where_one_has_no_gradient(tmp_path):
    # Rows of threes: one in process 0, two batches of two in process 1.
    sums = {"one": [[3.0, 3.0]], "both": [[3.0 + 4 * 3.0]]}
    assert run_in_two(capture_in_one_of_two, tmp_path) == (sums, sums)
