import pytest
import torch
from torch import nn

from rankwise.capture.losses import summed_loss
from rankwise.core.errors import DataError, ModelError
from tests.models.batches import points, split

from .networks import bert, classifier, gpt2, llama, sentences, t5


def language_model_sum(model, batch, *, shift):
    """The sum of the token losses, written out."""
    logits, labels = model(**batch).logits, batch["labels"]
    if shift:
        logits, labels = logits[:, :-1], labels[:, 1:]
    log_probabilities = logits.log_softmax(-1)
    return -sum(
        log_probabilities[row, position, labels[row, position]]
        for row, position in (labels != -100).nonzero().tolist()
    )


@pytest.mark.parametrize("make", [llama, gpt2])
def test_a_decoder_alone_predicts_the_next_token(make):
    model, batch = make().eval(), sentences(4)
    expected = language_model_sum(model, batch, shift=True)
    # These models compute their loss in float32, whatever they are in.
    torch.testing.assert_close(summed_loss(model, batch).double(), expected, rtol=1e-6, atol=0)


def test_an_encoder_decoder_predicts_the_label_in_place():
    model, batch = t5().eval(), sentences(4)
    expected = language_model_sum(model, batch, shift=False)
    torch.testing.assert_close(summed_loss(model, batch), expected, rtol=1e-12, atol=0)


def test_the_right_reading_is_found_in_bfloat16_too():
    batch = sentences(4)
    for model, counted in ((llama(), batch["labels"][:, 1:]), (t5(), batch["labels"])):
        model = model.to(torch.bfloat16).eval()
        mean = model(**batch).loss
        assert summed_loss(model, batch) == mean * int((counted != -100).sum())


@pytest.mark.parametrize(
    ("model", "batch"),
    [
        (classifier().eval(), points(12)),
        (llama().eval(), sentences(12)),
        (bert().eval(), {**sentences(12), "labels": torch.arange(12) % 3}),
    ],
    ids=["plain module", "causal language model", "sequence classifier"],
)
@pytest.mark.parametrize("sizes", [(5, 5, 2), (8, 1, 3)])
def test_sums_do_not_depend_on_how_samples_are_split(model, batch, sizes):
    parts = sum(summed_loss(model, part) for part in split(batch, *sizes))
    torch.testing.assert_close(parts, summed_loss(model, batch), rtol=1e-6, atol=0)


def test_floating_point_labels_count_by_the_row():
    class Regression(nn.Module):
        def forward(self, x, labels):
            return {"loss": nn.functional.mse_loss(x, labels), "logits": x}

    batch = {"x": torch.zeros(4, 1), "labels": torch.full((4, 1), 3.0)}
    assert summed_loss(Regression(), batch) == 36


def test_ignored_class_labels_do_not_count():
    model, batch = classifier(), points(4)
    batch["labels"][1:] = -100
    torch.testing.assert_close(summed_loss(model, batch), model(**batch)["loss"])


def test_a_loss_that_is_no_plain_mean_is_refused():
    class Smoothed(nn.Module):
        def forward(self, logits, labels):
            loss = nn.functional.cross_entropy(
                logits.flatten(0, 1), labels.flatten(), label_smoothing=0.3
            )
            return {"loss": loss, "logits": logits}

    logits = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ModelError, match="neither in place nor one position on: pass loss="):
        summed_loss(Smoothed(), {"logits": logits, "labels": torch.ones(2, 3, dtype=torch.long)})


@pytest.mark.parametrize(
    "options",
    [
        {"reduction": "sum"},
        {"weight": torch.tensor([1.0, 2.0, 5.0])},
        {"label_smoothing": 0.5},
    ],
    ids=["sum", "class weights", "label smoothing"],
)
def test_so_it_is_of_one_label_a_row(options):
    class Other(nn.Module):
        def forward(self, logits, labels):
            loss = nn.functional.cross_entropy(logits, labels, **options)
            return {"loss": loss, "logits": logits}

    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    with pytest.raises(
        ModelError, match=r"is not a mean over the labels of shape \(4,\), by .*loss="
    ):
        summed_loss(Other(), {"logits": logits, "labels": torch.tensor([0, 1, 2, 0])})


@pytest.mark.parametrize(
    "labels", [torch.tensor([0, 1, 2]), torch.tensor([[0, 1], [2, 0], [1, 1]])]
)
@pytest.mark.parametrize("term", [3.0, 1e-4])
def test_a_term_beside_the_mean_is_seen_however_small(labels, term):
    class Balanced(nn.Module):
        def forward(self, logits, labels):
            loss = nn.functional.cross_entropy(logits.flatten(0, -2), labels.flatten())
            return {"loss": loss + term, "logits": logits}

    logits = torch.randn(*labels.shape, 3, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ModelError, match=r"the loss .* is not .*: pass loss="):
        summed_loss(Balanced(), {"logits": logits, "labels": labels})


@pytest.mark.parametrize(
    ("loss", "labels"),
    [
        (nn.functional.mse_loss, torch.tensor([[0.5], [1.0], [2.0]])),
        (nn.functional.l1_loss, torch.tensor([0.5, 1.0, 2.0])),
        (nn.functional.smooth_l1_loss, torch.tensor([0.5, 1.0, 2.0])),
        (nn.functional.binary_cross_entropy_with_logits, torch.tensor([[0.0], [1.0], [1.0]])),
        (nn.functional.cross_entropy, torch.tensor([[0.2, 0.8], [1.0, 0.0], [0.5, 0.5]])),
    ],
)
def test_the_usual_means_over_rows_are_known(loss, labels):
    class Model(nn.Module):
        def forward(self, logits, labels):
            return {"loss": loss(logits, labels), "logits": logits}

    logits = torch.arange(labels.numel()).float().view(labels.shape) / 3
    batch = {"logits": logits, "labels": labels}
    assert summed_loss(Model(), batch) == 3 * loss(logits, labels)


def under_autocast_of_a_gpu(logits, labels):
    """What ``cross_entropy`` comes to there: log_softmax in the logits' dtype, the rest wider."""
    logarithms = logits.log_softmax(-1, dtype=logits.dtype).float()
    if labels.is_floating_point():
        return -(logarithms * labels).sum() / len(labels)
    return nn.functional.nll_loss(logarithms.flatten(0, -2), labels.flatten())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("widened", [False, True], ids=["as they came", "widened"])
@pytest.mark.parametrize(
    ("labels", "terms"),
    [
        (torch.tensor([0, 1, -100, 2]), 3),
        (torch.tensor([[0, 1], [2, 0], [1, -100], [-100, -100]]), 5),
        (torch.tensor([[0.2, 0.8, 0.0], [1.0, 0.0, 0.0], [0.5, 0.25, 0.25]]), 3),
    ],
    ids=["classes", "tokens", "shares"],
)
def test_a_mean_of_probabilities_in_half_precision_is_known(labels, terms, widened, dtype):
    class Model(nn.Module):
        def forward(self, logits, labels):
            loss = under_autocast_of_a_gpu(logits, labels)
            return {"loss": loss, "logits": logits.float() if widened else logits}

    shape = labels.shape if labels.is_floating_point() else (*labels.shape, 3)
    logits = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    batch = {"logits": logits, "labels": labels}
    expected = terms * under_autocast_of_a_gpu(logits, labels)
    assert summed_loss(Model(), batch) == expected
    with torch.autocast("cpu", torch.bfloat16):  # as where all of a start is made under it
        assert summed_loss(Model(), batch) == expected


def test_without_logits_nothing_is_known():
    class Silent(nn.Module):
        def forward(self, x, labels):
            return {"loss": x.mean()}

    with pytest.raises(ModelError, match="without logits the loss cannot be told to be a mean"):
        summed_loss(Silent(), {"x": torch.ones(2), "labels": torch.tensor([0, 1])})


def test_the_number_of_items_that_a_trainer_adds_does_not_reach_the_model():
    model, batch = classifier(), points(3)
    expected = summed_loss(model, batch)
    assert summed_loss(model, {**batch, "num_items_in_batch": torch.tensor(7)}) == expected


@pytest.mark.parametrize("batch", [{"x": torch.ones(1)}, torch.ones(1)])
def test_a_batch_without_labels_is_refused(batch):
    with pytest.raises(DataError, match="a batch must be a mapping with 'labels'"):
        summed_loss(classifier(), batch)


def test_a_batch_in_which_no_label_counts_is_refused():
    batch = points(3)
    batch["labels"][:] = -100
    with pytest.raises(DataError, match="every label of a batch is -100: leave the batch out"):
        summed_loss(classifier(), batch)


def test_a_model_that_returns_no_loss_is_refused():
    class Silent(nn.Module):
        def forward(self, labels):
            return {"logits": labels}

    with pytest.raises(ModelError, match="Silent must return a mapping with 'loss', got dict"):
        summed_loss(Silent(), {"labels": torch.ones(2)})


def test_token_labels_without_logits_of_their_shape_are_refused():
    class Hidden(nn.Module):
        def forward(self, labels):
            return {"loss": torch.tensor(1.0), "logits": torch.ones(2, 5)}

    with pytest.raises(ModelError, match=r"labels of shape \(2, 3\) need logits .* got \(2, 5\)"):
        summed_loss(Hidden(), {"labels": torch.ones(2, 3, dtype=torch.long)})
