from functools import partial

import pytest
import torch
from torch import nn

from rankwise.core.errors import DataError, ModelError, SettingsError
from rankwise.methods.inits.monitored import find_monitored
from tests.golden.cases import on_golden_cases
from tests.models.architectures import bert, llama, t5, vit
from tests.models.batches import points, sentences
from tests.models.networks import classifier

from .surroundings import adapted


def monitor(model, batch, *, layers=None, last=None, power=2):
    forward = partial(model, **batch)
    return find_monitored(model, forward, layers=layers, last=last, power=power)


def found(model, batch, **options):
    return [(call.name, call.weight) for call in monitor(model, batch, **options).calls]


def targets(rows, length=4):
    labels = torch.ones(rows, length, dtype=torch.long)
    labels[0, -2:] = -100
    return {"labels": labels}


PIXELS = {"pixel_values": torch.ones(1, 1, 4, 4)}


@pytest.mark.parametrize(
    ("model", "batch", "expected"),
    [
        (bert(), sentences(2), ["bert.encoder.layer.1.intermediate.intermediate_act_fn"]),
        (llama(), sentences(2), ["model.layers.1.mlp.act_fn", "model.layers.2.mlp.act_fn"]),
        (vit(), PIXELS, ["vit.layers.2.mlp.activation_fn", "vit.layers.3.mlp.activation_fn"]),
        (classifier(), points(2), ["gelu"]),
    ],
    ids=["bert", "llama", "vit", "plain module"],
)  # fmt: skip
def test_the_last_half_of_the_blocks_is_found_by_their_activations(model, batch, expected):
    assert [name for name, _ in found(model, batch)] == expected


@pytest.mark.parametrize("feed_forward", ["relu", "gated-gelu"])
def test_each_stack_of_an_encoder_decoder_counts_its_own_blocks(feed_forward):
    model, batch = t5(feed_forward_proj=feed_forward), {**sentences(2), **targets(2)}
    act = "DenseReluDense.act"
    assert dict(found(model, batch)) == pytest.approx(
        {
            f"encoder.block.1.layer.1.{act}": 1.0,
            f"decoder.block.1.layer.2.{act}": 1 / 4,
            f"decoder.block.2.layer.2.{act}": 1.0,
        }
    )


SIX_OF_TWELVE = {
    "block_index": torch.tensor([*range(6, 12)] * 2),
    "is_decoder": torch.tensor([0] * 6 + [1] * 6),
    "weights": torch.tensor([(n / 6) ** 2 for n in range(1, 7)] * 2, dtype=torch.float64),
}


@on_golden_cases("abm_schedule", six=SIX_OF_TWELVE)
def test_blocks_and_weights_of_twelve_layers_are_those_of_the_released_code(case):
    blocks, is_decoder, weights = (
        case[part].tolist() for part in ("block_index", "is_decoder", "weights")
    )
    model, batch = t5(num_layers=12, num_decoder_layers=12), {**sentences(1), **targets(1)}
    kept = len(blocks) // (2 if any(is_decoder) else 1)
    calls = monitor(model, batch, last=kept).calls
    if not any(is_decoder):
        calls = [call for call in calls if not call.is_in_decoder]
    assert [int(call.name.split(".")[2]) for call in calls] == blocks
    assert [call.is_in_decoder for call in calls] == [bool(each) for each in is_decoder]
    assert [call.weight for call in calls] == pytest.approx(weights, abs=1e-15)


def test_the_power_of_the_weights_can_be_chosen():
    weights = [weight for _, weight in found(llama(), sentences(1), power=1, last=3)]
    assert weights == pytest.approx([1 / 3, 2 / 3, 1])


def test_named_layers_are_all_monitored_by_their_outputs_and_weighed_in_their_stack():
    model, batch = t5(), {**sentences(2), **targets(2)}
    blocks = ["encoder.block.0.layer.1", "decoder.block.0.layer.2", "decoder.block.1.layer.2"]
    names = [f"{block}.DenseReluDense.wi" for block in blocks]
    chosen = monitor(model, batch, layers=names)
    assert [(call.name, call.weight) for call in chosen.calls] == [
        (names[0], 1.0),
        (names[1], 1 / 4),
        (names[2], 1.0),
    ]
    widths = [each.shape[-1] for each in chosen.activations(partial(model, **batch))]
    assert widths == [12, 12, 12]


def test_the_names_are_those_of_the_model_below_the_adapter():
    model = adapted(classifier())
    assert found(model, points(2), layers=["second"]) == found(
        classifier(), points(2), layers=["second"]
    )


def test_the_adapter_takes_part_in_a_named_layer():
    model = adapted(classifier())
    model.base_model.model.second.lora_B["default"].weight.data.fill_(1)
    forward = partial(model, **points(2))
    (value,) = monitor(model, points(2), layers=["second"]).activations(forward)
    hidden = torch.relu(model.base_model.model.first(points(2)["x"]))
    torch.testing.assert_close(value, model.base_model.model.second(hidden))


def test_an_activation_that_all_blocks_share_counts_once_a_block():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(3, 3) for _ in range(4))
            self.act = nn.ReLU()

        def forward(self, x):
            for layer in self.layers:
                x = self.act(layer(x))
            return x

    chosen = monitor(Shared(), {"x": torch.ones(1, 3)})
    assert [(call.number, call.weight) for call in chosen.calls] == [(2, 1 / 4), (3, 1.0)]


def test_a_bounded_activation_is_no_switch():
    model = nn.Sequential(nn.Linear(3, 3), nn.Tanh())
    with pytest.raises(ModelError, match=r"no activation module was found .* pass layers="):
        find_monitored(model, lambda: model(torch.ones(1, 3)), layers=None, last=None, power=2)


def test_an_unknown_layer_is_refused_with_its_nearest_names():
    with pytest.raises(
        ModelError, match=r"Classifier has no module 'secnd'; did you mean 'second'\?"
    ):
        monitor(classifier(), points(1), layers=["secnd"])


def test_a_named_layer_that_is_not_called_is_refused():
    model = classifier()
    model.idle = nn.Linear(2, 2)
    with pytest.raises(ModelError, match=r"layers: \['idle'\] take no part in the forward pass"):
        monitor(model, points(1), layers=["idle", "second"])


def test_more_blocks_than_a_stack_has_are_refused():
    batch = {**sentences(1), **targets(1)}
    with pytest.raises(
        SettingsError, match=r"between 1 and 2 \(the blocks of encoder.block\), got 3"
    ):
        monitor(t5(), batch, last=3)


def masks(model, batch):
    chosen = monitor(model, batch)
    return chosen.masks(batch, chosen.activations(partial(model, **batch)))


def test_positions_count_where_the_attention_mask_says():
    batch = sentences(3)
    for mask in masks(llama(), batch):
        assert torch.equal(mask, batch["attention_mask"].bool())


def test_encoder_and_decoder_positions_count_by_their_own_masks():
    batch = {**sentences(2), **targets(2)}
    encoder, *decoder = masks(t5(), batch)
    assert torch.equal(encoder, batch["attention_mask"].bool())
    for mask in decoder:
        assert torch.equal(mask, batch["labels"] != -100)
    batch["decoder_attention_mask"] = torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0]])
    assert torch.equal(masks(t5(), batch)[-1], batch["decoder_attention_mask"].bool())


def test_without_a_mask_all_positions_count():
    assert masks(vit(), PIXELS) == [None, None]
    assert masks(classifier(), points(2)) == [None]


def test_positions_that_a_model_flattens_keep_their_masks():
    class Flat(nn.Module):
        def __init__(self):
            super().__init__()
            self.act = nn.ReLU()

        def forward(self, x, attention_mask):
            return self.act(x.flatten(0, 1))

    batch = {"x": torch.ones(2, 3, 5), "attention_mask": torch.tensor([[1, 1, 0], [1, 0, 0]])}
    (mask,) = masks(Flat(), batch)
    assert mask.tolist() == [True, True, False, True, False, False]


def test_a_mask_that_does_not_fit_is_refused():
    model, batch = classifier(), points(2)
    chosen = monitor(model, batch)
    activations = chosen.activations(partial(model, **batch))
    with pytest.raises(DataError, match=r"gelu has positions of shape \(2,\), .* shape \(2, 6\)"):
        chosen.masks({"attention_mask": torch.ones(2, 6)}, activations)
