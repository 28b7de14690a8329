"""The decomposition that LoRA-XS begins with is taken when it is first asked for, or never."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import torch
from peft import PeftModel, get_peft_model
from torch import nn
from torch.func import functional_call, grad, vmap

from rankwise.core.seeds import derive_seed
from rankwise.export.lora import export_lora
from rankwise.functional.svd import truncated_svd
from rankwise.methods.adapters import lora_xs
from rankwise.methods.adapters.bridge import base_weight
from rankwise.methods.adapters.lora_xs import LoraXSConfig
from rankwise.methods.inits.initialize import initialize
from rankwise.methods.inits.update import UpdateApproximation
from tests.models.adapters import TARGETS, attach, config, inputs, layers
from tests.models.networks import Network

R = 3


@pytest.fixture
def decompositions(monkeypatch):
    """The shapes of the matrices that LoRA-XS decomposes."""
    shapes = []

    def counted(matrix, *arguments, **options):
        shapes.append(tuple(matrix.shape))
        return truncated_svd(matrix, *arguments, **options)

    monkeypatch.setattr(lora_xs, "truncated_svd", counted)
    return shapes


def expected_factors(layer, name, seed=0):
    """B and A as they are where they are computed at once: the core is drawn before."""
    generator = torch.Generator().manual_seed(derive_seed(seed, name))
    torch.randn(R, R, generator=generator)
    U, S, Vh = truncated_svd(base_weight(layer), R, generator=generator)
    return [U, S.unsqueeze(1) * Vh]


def assert_is_drawn(model, expected):
    for layer, factors in zip(layers(model), expected, strict=True):
        stored = list(layer.frozen_parts("default").values())
        assert {type(each) for each in stored} == {nn.Parameter}
        assert all(map(torch.equal, stored, factors))


def expected_of(model):
    return [expected_factors(each, name) for each, name in zip(layers(model), TARGETS, strict=True)]


def parameters_of(model):
    return {name: each.detach() for name, each in model.named_parameters() if each.requires_grad}


def everything(model):
    return dict(model.named_parameters())


def vmapped(model):
    frozen = everything(model)
    return vmap(lambda x: functional_call(model, frozen, (x.unsqueeze(0),)))(inputs())


def differentiated(model):
    frozen = everything(model)
    return grad(lambda x: functional_call(model, frozen, (x,)).sum())(inputs())


ASKED = {
    "a pass": lambda model: model(inputs()),
    "a pass in inference mode": torch.inference_mode()(lambda model: model(inputs())),
    "a gradient": lambda model: model(inputs()).sum().backward(),
    "a state dict": lambda model: model.state_dict(),
    "a pickle": pickle.dumps,
    "a copy": copy.deepcopy,
    "a read parameter": lambda model: [each.sum() for each in model.parameters()],
    "a change": lambda model: [each.get_delta_weight("default") for each in layers(model)],
    "merging": lambda model: (model.merge_adapter(), model.unmerge_adapter()),
    "a vmap": vmapped,
    "a derivative by torch.func": differentiated,
    "a compiled pass": lambda model: torch.compile(model, backend="eager")(inputs()),
    "a traced pass": lambda model: torch.jit.trace(model.eval(), inputs()),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings(r"ignore:.torch.jit.\w+. is deprecated:FutureWarning")
@pytest.mark.parametrize("asked", ASKED)
def test_attaching_decomposes_nothing_and_the_first_who_asks_finds_it(asked, decompositions):
    model = attach("lora_xs")
    expected = expected_of(model)
    assert not decompositions
    ASKED[asked](model)
    assert len(decompositions) == len(TARGETS)
    assert_is_drawn(model, expected)
    ASKED["a pass"](model)
    assert len(decompositions) == len(TARGETS)


def test_shapes_and_moves_are_no_questions(decompositions):
    model = attach("lora_xs")
    expected = expected_of(model)
    model.to("cpu", torch.float64).to(torch.float32)
    assert [tuple(each.shape) for each in model.parameters()]
    assert model.get_nb_trainable_parameters()[0] == 2 * R * R
    model.requires_grad_(False)
    assert not decompositions
    model(inputs())
    assert_is_drawn(model, expected)


def test_a_cast_model_draws_in_its_own_dtype():
    model = attach("lora_xs").to(torch.bfloat16)
    model(inputs(torch.bfloat16))
    for layer in layers(model):
        _, B, A = layer.parts("default")
        assert {B.dtype, A.dtype} == {torch.bfloat16}
        U, _, _ = torch.linalg.svd(base_weight(layer).float(), full_matrices=False)
        torch.testing.assert_close((U[:, :R].T @ B.float()).abs(), torch.eye(R), atol=0.02, rtol=0)


def test_an_init_overwrites_without_asking(decompositions):
    model = attach("lora_xs")
    initialize(model, UpdateApproximation(lr=0.1), [inputs()], loss=lambda m, x: m(x).sum())
    assert not decompositions
    other = attach("lora_xs", init_weights=False)
    initialize(other, UpdateApproximation(lr=0.1), [inputs()], loss=lambda m, x: m(x).sum())
    assert torch.equal(model(inputs()), other(inputs()))
    assert not decompositions


def test_an_init_that_fails_leaves_what_waits_waiting(decompositions):
    model = attach("lora_xs")
    expected = expected_of(model)

    def late_failure(model, x):
        return model(x).sum() * float("nan")

    with pytest.raises(Exception, match="is nan"):
        initialize(model, UpdateApproximation(lr=0.1), [inputs()], loss=late_failure)
    assert not decompositions
    model(inputs())
    assert_is_drawn(model, expected)


@pytest.mark.parametrize("is_trainable", [False, True])
def test_what_is_saved_before_any_pass_is_what_is_loaded(tmp_path, is_trainable):
    attach("lora_xs", seed=1).save_pretrained(tmp_path)
    torch.manual_seed(2)
    loaded = PeftModel.from_pretrained(Network(), tmp_path, is_trainable=is_trainable)
    assert torch.equal(loaded(inputs()), attach("lora_xs", seed=1)(inputs()))


def test_what_is_exported_before_any_pass_is_right(tmp_path):
    model, asked = attach("lora_xs"), attach("lora_xs")
    expected = asked(inputs())
    export_lora(model, tmp_path / "lora")
    torch.manual_seed(2)
    exported = PeftModel.from_pretrained(Network(), tmp_path / "lora")
    torch.testing.assert_close(exported(inputs()), expected)


def test_threads_that_come_at_once_wait_for_one_decomposition(decompositions):
    expected = attach("lora_xs")(inputs())
    decompositions.clear()
    model, start = attach("lora_xs"), Barrier(4)

    def work(_):
        start.wait()
        return model(inputs())

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(work, range(4)))
    assert all(torch.equal(each, expected) for each in results)
    assert len(decompositions) == len(TARGETS)


def test_the_weight_before_another_adapter_is_merged_is_what_counts():
    model = attach("lora_xs")
    expected = expected_of(model)
    model.add_adapter("other", config("lora_xs", r=2))
    with torch.no_grad():
        for layer in layers(model):
            layer.parts("other")[0].normal_()
    model.merge_adapter(["other"])
    model.unmerge_adapter()
    assert_is_drawn(model, expected)


def test_a_deleted_adapter_asks_for_nothing(decompositions):
    model = attach("lora_xs")
    model.add_adapter("other", config("lora_xs", r=2))
    model.set_adapter("other")
    model.delete_adapter("default")
    model(inputs())
    assert decompositions == [tuple(base_weight(each).shape) for each in layers(model)]


def test_a_bfloat16_base_gives_what_its_float32_copy_gives():
    torch.manual_seed(0)
    base = nn.Sequential(nn.Linear(12, 9, dtype=torch.bfloat16))
    options = {"r": R, "target_modules": ["0"]}
    wide = get_peft_model(copy.deepcopy(base).float(), LoraXSConfig(**options))
    narrow = get_peft_model(base, LoraXSConfig(**options), autocast_adapter_dtype=False)
    expected = wide.base_model.model[0].parts("default")
    actual = narrow.base_model.model[0].parts("default")
    assert all(torch.equal(a, e.to(torch.bfloat16)) for a, e in zip(actual, expected, strict=True))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_copy_can_be_compiled():
    model = attach("lora_xs")
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        compiled = torch.compile(copied, backend="eager")
        torch.testing.assert_close(compiled(inputs()), model(inputs()))
