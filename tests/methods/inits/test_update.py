import pytest
import torch
from peft import LoraConfig
from transformers.pytorch_utils import Conv1D

from rankwise.capture.gradients import capture_gradients
from rankwise.core.errors import ModelError, SettingsError
from rankwise.functional import svd
from rankwise.functional.product import Product
from rankwise.methods.adapters.bridge import adapted_layers, delta, factors
from rankwise.methods.adapters.delora import DeloraConfig
from rankwise.methods.adapters.lora_xs import LoraXSConfig
from rankwise.methods.inits.initialize import initialize
from rankwise.methods.inits.update import UpdateApproximation
from tests.models.batches import points, split
from tests.models.networks import Classifier, classifier

from .surroundings import adapted

TARGETS = ["first", "second"]
CONFIGS = {
    "lora": LoraConfig(r=2, lora_alpha=6, target_modules=TARGETS),
    "lora_xs": LoraXSConfig(r=2, lora_alpha=6, target_modules=TARGETS),
}


def gradients(batches, base=None):
    """The full gradients of the network without adapters."""
    base, found = base or classifier(), {}
    layers = {name: base.get_submodule(name) for name in TARGETS}
    capture_gradients(base, layers, batches=batches, consume=found.__setitem__)
    return found


def best_approximation(target, r):
    U, S, Vh = torch.linalg.svd(target)
    return U[:, :r] * S[:r] @ Vh[:r]


def changes(model):
    return {name.split(".")[-1]: delta(each, "default")
            for name, each in adapted_layers(model).items()}  # fmt: skip


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("mode", ["sign", "raw"])
def test_the_change_is_the_best_approximation_of_the_first_full_update(kind, mode):
    model, batches = adapted(config=CONFIGS[kind]), split(points(12), 5, 5, 2)
    initialize(model, UpdateApproximation(lr=0.1, mode=mode), batches)
    for name, gradient in gradients(batches).items():
        target = -0.1 * (gradient.sign() if mode == "sign" else gradient)
        expected = best_approximation(target, 2)
        torch.testing.assert_close(changes(model)[name], expected, rtol=1e-6, atol=1e-8)


def test_sgds_update_of_one_batch_needs_no_gradient(monkeypatch):
    model, twin, batch = adapted(), adapted(), points(6)
    initialize(twin, UpdateApproximation(lr=0.1, mode="raw"), split(batch, 3, 3))
    monkeypatch.setattr(Product, "pays", lambda *_: True)
    monkeypatch.setattr(svd, "EXACT_SIDE", 0)
    initialize(model, UpdateApproximation(lr=0.1, mode="raw"), [batch])
    for name, change in changes(twin).items():
        torch.testing.assert_close(changes(model)[name], change, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("mode", ["sign", "raw"])
def test_layers_that_are_factored_together_begin_where_they_would_alone(mode):
    alone, together, batch = adapted(), adapted(), points(6)
    initialize(alone, UpdateApproximation(lr=0.1, mode=mode, decomposition="narrow"), [batch])
    initialize(together, UpdateApproximation(lr=0.1, mode=mode, decomposition="wide"), [batch])
    for name, change in changes(alone).items():
        torch.testing.assert_close(changes(together)[name], change, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("kind", CONFIGS)
def test_the_outputs_move_by_exactly_that_update(kind):
    model, batches = adapted(config=CONFIGS[kind]), [points(6)]
    initialize(model, UpdateApproximation(lr=0.01), batches)
    moved = classifier()
    for name, change in changes(model).items():
        moved.get_submodule(name).weight.data += change
    actual, expected = model(**points(4))["logits"], moved(**points(4))["logits"]
    torch.testing.assert_close(actual, expected, rtol=1e-6, atol=1e-8)
    assert not torch.allclose(actual, classifier()(**points(4))["logits"], atol=1e-4)


def test_delora_takes_the_directions_and_keeps_its_outputs():
    config = DeloraConfig(r=2, delora_lambda=3, target_modules=TARGETS)
    model, batches = adapted(config=config), [points(6)]
    initialize(model, UpdateApproximation(lr=0.1), batches)
    torch.testing.assert_close(model(**points(4))["logits"], classifier()(**points(4))["logits"])
    for name, gradient in gradients(batches).items():
        layer = model.base_model.model.get_submodule(name)
        U, _, Vh = torch.linalg.svd(gradient.sign())
        A, B, *_ = layer.parts("default")
        torch.testing.assert_close(B @ B.T, U[:, :2] @ U[:, :2].T)
        rows = torch.nn.functional.normalize(A * layer.parts("default")[-1], dim=-1)
        torch.testing.assert_close(rows.T @ rows, Vh[:2].T @ Vh[:2])


ADAPTERS = CONFIGS | {"delora": DeloraConfig(r=2, delora_lambda=3, target_modules=TARGETS)}


@pytest.mark.parametrize("kind", ADAPTERS)
def test_the_directions_alone_leave_every_adapter_at_zero(kind):
    model, batches = adapted(config=ADAPTERS[kind]), [points(6)]
    initialize(model, UpdateApproximation(lr=0.1, mode="raw", start="zero"), batches)
    assert all(not change.any() for change in changes(model).values())
    assert torch.equal(model(**points(4))["logits"], classifier()(**points(4))["logits"])


@pytest.mark.parametrize("kind", ["lora", "lora_xs"])
def test_what_they_follow_of_the_gradient_is_its_leading_singular_values(kind):
    model, batches = adapted(config=CONFIGS[kind]), [points(6)]
    init = UpdateApproximation(lr=0.1, mode="raw", start="zero")
    report = initialize(model, init, batches, measure=True)
    for start in report.layers:
        gradient = gradients(batches)[start.name.rpartition(".")[2]]
        squares = torch.linalg.svdvals(gradient).square()
        assert start.captured_after == pytest.approx(float(squares[:2].sum() / squares.sum()))
        assert start.relative_strength == 0


def test_a_first_step_of_lora_from_there_moves_the_weight_along_the_gradient():
    model, batch = adapted(lora_alpha=2), points(6)
    initialize(model, UpdateApproximation(lr=0.1, mode="raw", start="zero"), [batch])
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.3)
    (model(**batch)["loss"] * len(batch["labels"])).backward()
    optimizer.step()
    for name, gradient in gradients([batch]).items():
        # A has rows of norm 1/√3, and B moves by −lr G Aᵀ.
        expected = -0.1 * best_approximation(gradient, 2)
        torch.testing.assert_close(changes(model)[name], expected)


def test_directions_alone_and_sizes_in_B_do_not_go_together():
    with pytest.raises(SettingsError, match=r"start='zero' leaves .*give one of the two"):
        UpdateApproximation(lr=0.1, start="zero", orthonormal=False)


def test_the_frozen_factors_of_lora_xs_are_orthonormal_and_its_core_diagonal():
    model = adapted(config=CONFIGS["lora_xs"])
    initialize(model, UpdateApproximation(lr=0.1), [points(6)])
    for layer in adapted_layers(model).values():
        R, _, A = layer.parts("default")
        torch.testing.assert_close(A @ A.T, torch.eye(2).double())
        assert torch.equal(R, R.diagonal().diag())
        assert R.diagonal().min() > 0


@pytest.mark.parametrize("sizes", [(5, 5, 2), (8, 1, 3), (1,) * 12])
def test_the_update_does_not_depend_on_how_samples_are_split(sizes):
    whole, parts = adapted(), adapted()
    initialize(whole, UpdateApproximation(lr=0.1), [points(12)])
    initialize(parts, UpdateApproximation(lr=0.1), split(points(12), *sizes))
    for name, change in changes(whole).items():
        torch.testing.assert_close(changes(parts)[name], change, rtol=1e-6, atol=1e-9)


def test_dropout_and_train_mode_change_nothing():
    noisy = adapted(classifier(dropout=0.5), lora_dropout=0.5).train()
    quiet = adapted(classifier(dropout=0.0))
    for model in (noisy, quiet):
        initialize(model, UpdateApproximation(lr=0.1), [points(12)])
    for name, change in changes(quiet).items():
        assert torch.equal(changes(noisy)[name], change)
    assert noisy.training


def test_what_the_adapter_held_before_does_not_matter():
    fresh, used = adapted(), adapted()
    for parameter in used.parameters():
        if parameter.requires_grad:
            parameter.data.normal_()
    for model in (fresh, used):
        initialize(model, UpdateApproximation(lr=0.1), [points(12)])
    for name, change in changes(fresh).items():
        assert torch.equal(changes(used)[name], change)


def test_a_memory_budget_gives_the_same_factors():
    free, tight = adapted(), adapted()
    batches = split(points(12), 5, 5, 2)
    initialize(free, UpdateApproximation(lr=0.1), batches)
    initialize(tight, UpdateApproximation(lr=0.1, gradient_memory=8 * 8 * 8), batches)
    for name, change in changes(free).items():
        assert torch.equal(changes(tight)[name], change)


def test_a_bfloat16_base_gets_float32_factors():
    base, batch = classifier(dtype=torch.bfloat16), points(6, dtype=torch.bfloat16)
    model = adapted(base, CONFIGS["lora_xs"])
    initialize(model, UpdateApproximation(lr=0.1), [batch])
    found = gradients([batch], classifier(dtype=torch.bfloat16))
    for name, layer in adapted_layers(model).items():
        B, A = factors(layer, "default")
        assert (B.dtype, A.dtype) == (torch.float32, torch.float32)
        expected = best_approximation(-0.1 * found[name.split(".")[-1]].sign(), 2)
        torch.testing.assert_close(B @ A, expected, rtol=1e-5, atol=1e-6)
    assert base.first.weight.dtype is torch.bfloat16


def test_a_transposed_weight_gets_the_same_change():
    plain, base = classifier(), classifier()
    for name in TARGETS:
        linear = base.get_submodule(name)
        transposed = Conv1D(*linear.weight.shape).double()
        transposed.weight.data = linear.weight.data.T.clone()
        transposed.bias.data = linear.bias.data
        setattr(base, name, transposed)
    model = adapted(base, fan_in_fan_out=True)
    initialize(model, UpdateApproximation(lr=0.1), [points(6)])
    for name, gradient in gradients([points(6)], plain).items():
        expected = best_approximation(-0.1 * gradient.sign(), 2)
        torch.testing.assert_close(changes(model)[name], expected)


def test_rank_patterns_are_respected():
    model = adapted(rank_pattern={"second": 4})
    report = initialize(model, UpdateApproximation(lr=0.1), [points(6)])
    assert [layer.rank for layer in report.layers] == [2, 4]
    assert torch.linalg.matrix_rank(changes(model)["second"]) == 4


def test_a_rank_beyond_the_layer_is_refused_by_name():
    model = adapted(r=4, target_modules=["second", "head"])
    with pytest.raises(ModelError, match=r"between 1 and 3 \(the smaller side of .*head\), got 4"):
        initialize(model, UpdateApproximation(lr=0.1), [points(6)])


def test_a_layer_without_a_gradient_is_refused_by_name():
    base = classifier()
    base.idle = torch.nn.Linear(4, 4).double()
    model = adapted(base, target_modules=["first", "idle"])
    with pytest.raises(ModelError, match="idle has no gradient"):
        initialize(model, UpdateApproximation(lr=0.1), [points(6)])


def test_any_batch_works_with_a_loss_of_ones_own():
    def loss(model: Classifier, batch):
        x, labels = batch
        return torch.nn.functional.cross_entropy(model(x)["logits"], labels, reduction="sum")

    own, usual = adapted(), adapted()
    report = initialize(own, UpdateApproximation(lr=0.1), [tuple(points(6).values())], loss=loss)
    initialize(usual, UpdateApproximation(lr=0.1), [points(6)])
    assert report.outcome.samples == 6
    for name, change in changes(usual).items():
        torch.testing.assert_close(changes(own)[name], change)


@pytest.mark.parametrize("mode", ["sign", "raw"])
def test_noise_is_added_to_the_update_itself(mode):
    # Of full rank, so that nothing is cut off and the noise can be seen.
    model, batch = adapted(target_modules=["second"], r=8), points(6)
    initialize(model, UpdateApproximation(lr=0.1, mode=mode, noise=0.5), [batch])
    gradient = gradients([batch])["second"]
    update = -0.1 * (gradient.sign() if mode == "sign" else gradient)
    noise = changes(model)["second"] - update
    assert 0.4 < noise.std() < 0.6
    assert abs(noise.mean()) < 0.2
    again = adapted(target_modules=["second"], r=8)
    initialize(again, UpdateApproximation(lr=0.1, mode=mode, noise=0.5), [batch])
    assert torch.equal(changes(again)["second"], changes(model)["second"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": 0.0}, "lr must be positive and finite, got 0.0"),
        ({"lr": float("inf")}, "lr must be positive and finite, got inf"),
        ({"lr": 0.1, "mode": "adam"}, "mode must be 'sign', 'raw' or 'kaiming', got 'adam'"),
        ({"lr": 0.1, "start": "one"}, "start must be 'update' or 'zero', got 'one'"),
        ({"lr": 0.1, "noise": -1e-3}, "noise must be 0 or more and finite, got -0.001"),
        ({"lr": 0.1, "decomposition": "exact"}, "decomposition must be 'auto', 'narrow' or 'wide'"),
        ({"lr": 0.1, "gradient_memory": 0}, "gradient_memory must be a positive number of bytes"),
    ],
)
def test_wrong_settings_are_refused(options, message):
    with pytest.raises(SettingsError, match=message):
        UpdateApproximation(**options)


def test_there_is_no_default_learning_rate():
    with pytest.raises(TypeError, match="lr"):
        UpdateApproximation()  # type: ignore[call-arg]


# The paper's ablations, and its sum over samples ----------------------------------------


def test_a_random_matrix_may_take_the_place_of_the_update():
    model, again, other = adapted(), adapted(), adapted()
    for each, seed in ((model, 0), (again, 0), (other, 1)):
        method = UpdateApproximation(lr=0.1, mode="kaiming", seed=seed)
        initialize(each, method, split(points(12), 12))
    for name, change in changes(model).items():
        assert change.norm() > 0.01
        assert torch.equal(change, changes(again)[name])
        assert not torch.equal(change, changes(other)[name])


def test_a_core_of_one_has_the_singular_values_on_its_left():
    plain, weighted = (adapted(config=CONFIGS["lora_xs"]) for _ in range(2))
    initialize(plain, UpdateApproximation(lr=0.1), split(points(12), 12))
    initialize(weighted, UpdateApproximation(lr=0.1, orthonormal=False), split(points(12), 12))
    for (name, layer), twin in zip(
        adapted_layers(weighted).items(), adapted_layers(plain).values(), strict=True
    ):
        R, B, A = layer.parts("default")
        torch.testing.assert_close(layer.scaling["default"] * R, torch.eye(2, dtype=R.dtype))
        assert not torch.allclose(B.T @ B, torch.eye(2, dtype=B.dtype), atol=1e-3)
        torch.testing.assert_close(A @ A.T, torch.eye(2, dtype=A.dtype), rtol=0, atol=1e-5)
        torch.testing.assert_close(delta(layer, "default"), delta(twin, "default"), msg=name)


class TokenModel(Classifier):
    """The classifier at every position; its loss is the mean over all labels that count."""

    def forward(self, x, labels):
        logits = super().forward(x)["logits"]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
        return {"loss": loss, "logits": logits}


def of_tokens():
    base = classifier()
    base.__class__ = TokenModel
    return base


def tokens():
    """Two rows, of which the first has one label that counts and the second four."""
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(2, 4, 4, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 3, (2, 4), generator=generator)
    labels[0, 1:] = -100
    return {"x": x, "labels": labels}


def test_the_gradient_sums_each_samples_mean_if_that_is_asked_for():
    found = {}
    for sum_over in ("tokens", "samples"):
        model = adapted(of_tokens())
        method = UpdateApproximation(lr=0.1, mode="raw", sum_over=sum_over)
        report = initialize(model, method, [tokens()])
        assert report.outcome.samples == 2
        found[sum_over] = changes(model)
    base = of_tokens()
    for row in (0, 1):
        base(**{key: each[row : row + 1] for key, each in tokens().items()})["loss"].backward()
    for name in TARGETS:
        best = best_approximation(-0.1 * base.get_submodule(name).weight.grad, 2)
        torch.testing.assert_close(found["samples"][name], best, rtol=1e-5, atol=1e-7)
        assert not torch.allclose(found["tokens"][name], best, rtol=0.1)


def test_a_sum_over_samples_is_of_the_models_own_loss():
    method = UpdateApproximation(lr=0.1, sum_over="samples")
    with pytest.raises(SettingsError, match="of the model's own loss: leave loss out"):
        initialize(adapted(), method, [points(4)], loss=lambda model, batch: model(**batch)["loss"])


@pytest.mark.parametrize(("option", "value"), [("mode", "gauss"), ("sum_over", "rows")])
def test_an_unknown_choice_is_refused(option, value):
    with pytest.raises(SettingsError, match=f"{option} must be .* got '{value}'"):
        UpdateApproximation(lr=0.1, **{option: value})
