import pytest
import torch
from torch import nn

from rankwise.capture.activations import capture_activations, list_calls
from rankwise.core.errors import ModelError


class Network(nn.Module):
    """Three linear layers around one shared activation, which works in place."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(3, 3) for _ in range(3))
        self.act = nn.ReLU(inplace=True)
        self.forwards_finished = 0

    def forward(self, x):
        for layer in self.layers:
            x = self.act(layer(x))
        self.forwards_finished += 1
        return x


@pytest.fixture
def network():
    torch.manual_seed(0)
    return Network()


X = torch.randn(2, 3, generator=torch.Generator().manual_seed(1))


def hooks(model):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def pre_activations(network):
    """The inputs of the activation, written out."""
    values, x = [], X
    for layer in network.layers:
        values.append(layer(x))
        x = values[-1].relu()
    return values


def test_calls_are_listed_in_the_order_of_the_forward_pass(network):
    modules = {"act": network.act, "second": network.layers[1]}
    calls = list_calls(lambda: network(X), modules, side="output")
    assert calls == ["act", "second", "act", "act"]
    assert network.forwards_finished == 1
    assert hooks(network) == 0


def test_a_module_that_is_called_in_every_block_overwrites_nothing(network):
    captured = capture_activations(
        lambda: network(X), {"act": network.act}, side="input", calls=[0, 1, 2]
    )
    for actual, expected in zip(captured, pre_activations(network), strict=True):
        torch.testing.assert_close(actual, expected)


def test_outputs_keep_their_values_before_what_changes_them_in_place(network):
    modules = {"a": network.layers[0], "b": network.layers[2]}
    captured = capture_activations(lambda: network(X), modules, side="output", calls=[0, 1])
    expected = pre_activations(network)
    torch.testing.assert_close(captured[0], expected[0])
    torch.testing.assert_close(captured[1], expected[2])
    assert (captured[0] < 0).any()


def test_the_forward_pass_ends_after_the_last_call_wanted(network):
    seen = []
    network.layers[2].register_forward_hook(lambda *_: seen.append("third"))
    modules = {"act": network.act}
    (captured,) = capture_activations(lambda: network(X), modules, side="input", calls=[1])
    torch.testing.assert_close(captured, pre_activations(network)[1])
    assert network.forwards_finished == 0
    assert seen == ["third"]  # the one of `pre_activations` alone


def test_a_model_that_swallows_exceptions_does_not_swallow_the_end(network):
    def forward():
        try:
            network(X)
        except Exception:
            pytest.fail("the end of a capture must not look like a failure")

    modules = {"act": network.act}
    assert len(capture_activations(forward, modules, side="input", calls=[0])) == 1


def test_gradients_reach_the_weights(network):
    (captured,) = capture_activations(
        lambda: network(X), {"act": network.act}, side="input", calls=[0]
    )
    captured.sum().backward()
    torch.testing.assert_close(network.layers[0].bias.grad, torch.full((3,), 2.0))


def test_two_captures_at_once_do_not_know_of_each_other(network):
    other = Network()
    inner = []

    def forward():
        inner.extend(capture_activations(lambda: other(X), {"act": other.act}, **options))
        network(X)

    options = {"side": "input", "calls": [0, 2]}
    outer = capture_activations(forward, {"act": network.act}, **options)
    for captured, model in ((outer, network), (inner, other)):
        expected = pre_activations(model)
        torch.testing.assert_close(captured[0], expected[0])
        torch.testing.assert_close(captured[1], expected[2])


def test_hooks_are_gone_after_an_error(network):
    with pytest.raises(RuntimeError):
        capture_activations(
            lambda: network(torch.ones(1, 7)), {"act": network.act}, side="input", calls=[0]
        )
    assert hooks(network) == 0


def test_a_forward_pass_with_fewer_calls_is_refused(network):
    with pytest.raises(ModelError, match="called the monitored modules 3 times, expected 5"):
        capture_activations(lambda: network(X), {"act": network.act}, side="input", calls=[0, 4])


def test_an_output_that_is_no_tensor_is_refused():
    attention = nn.MultiheadAttention(4, 1)
    x = torch.ones(2, 1, 4)
    with pytest.raises(ModelError, match="activation of attention must be one tensor, got tuple"):
        capture_activations(
            lambda: attention(x, x, x), {"attention": attention}, side="output", calls=[0]
        )
