"""The inits on two processes: what is sent, who decomposes what, and what all end with."""

import pytest
import torch
from torch import distributed

from rankwise.core.errors import TrainingError
from rankwise.methods.adapters.bridge import adapted_layers, factors
from rankwise.methods.inits import together
from rankwise.methods.inits.boundary import BoundaryMatching
from rankwise.methods.inits.initialize import initialize
from rankwise.methods.inits.update import UpdateApproximation
from tests.models.batches import points
from tests.two_processes import run_in_two

from .surroundings import adapted

INIT = UpdateApproximation(lr=1e-3, mode="raw")
SHAPES = {"first": (8, 4), "second": (8, 8)}


def changes(model):
    pairs = (factors(layer, "default") for layer in adapted_layers(model).values())
    return [(B @ A).detach() for B, A in pairs]


def match(batches):
    """The changes and losses of boundary matching, from an adapter that has learned something."""
    model = adapted()
    for layer in adapted_layers(model).values():
        torch.nn.init.constant_(layer.lora_B["default"].weight, 0.1)
    report = initialize(model, BoundaryMatching(steps=5, lr=0.01), batches)
    return changes(model), report.outcome.losses


def count_what_is_sent(monkeypatch):
    sent = []
    for name in ("all_reduce", "reduce", "broadcast"):
        plain = getattr(distributed, name)

        def counting(tensor, *args, name=name, plain=plain, **options):
            sent.append((name, *tensor.shape))
            return plain(tensor, *args, **options)

        monkeypatch.setattr(distributed, name, counting)
    return sent


def initialise_one_of_two(rank, _folder):
    decomposed, plain = [], together.truncated_svds
    with pytest.MonkeyPatch.context() as patch:
        sent = count_what_is_sent(patch)
        patch.setattr(
            together,
            "truncated_svds",
            lambda ascents, r, **options: (
                decomposed.extend(tuple(ascent.shape) for ascent in ascents)
                or plain(ascents, r, **options)
            ),
        )
        model = adapted()
        initialize(model, INIT, [points(6, seed=rank), points(3, seed=rank + 2)])
    broken = points(6, seed=rank)
    broken["x"] *= torch.inf if rank else 1  # process 1 alone has a gradient that is not finite
    try:
        initialize(adapted(), INIT, [broken], loss=lambda m, b: m(**b)["logits"].nan_to_num().sum())
        error = None
    except TrainingError as refused:
        error = str(refused)
    return changes(model), sent, decomposed, error, match([points(4, seed=rank)])


@pytest.mark.processes
def test_only_gradients_are_summed_and_all_end_with_the_factors_of_one_process(tmp_path):
    first, second = run_in_two(initialise_one_of_two, tmp_path)
    for mine, theirs in zip(first[0], second[0], strict=True):
        assert torch.equal(mine, theirs)

    alone = adapted()
    initialize(
        alone, INIT, [points(rows, seed=seed) for rows, seed in ((6, 0), (3, 2), (6, 1), (3, 3))]
    )
    for mine, expected in zip(first[0], changes(alone), strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-9, atol=1e-15)

    sums = [("reduce", *shape) for shape in SHAPES.values()]
    assert [sent for sent in first[1] if sent[0] != "broadcast"] == sums
    returned = [sent[1:] for sent in first[1] if sent[0] == "broadcast" and len(sent) > 1]
    assert returned == [(8, 2), (2, 2), (2, 4), (8, 2), (2, 2), (2, 8)]  # B, R and A of each layer
    assert first[1] == second[1]
    assert (first[2], second[2]) == ([SHAPES["first"]], [SHAPES["second"]])

    assert first[3] == second[3]
    assert "gradient of" in first[3]
    assert "is not finite" in first[3]

    whole = {
        name: torch.cat([each[name] for each in (points(4, seed=0), points(4, seed=1))])
        for name in ("x", "labels")
    }
    expected, losses = match([whole])
    torch.testing.assert_close(first[4][0], second[4][0], rtol=0, atol=0)
    torch.testing.assert_close(first[4][0], expected, rtol=1e-6, atol=1e-9)
    assert first[4][1] == second[4][1] == pytest.approx(losses)
