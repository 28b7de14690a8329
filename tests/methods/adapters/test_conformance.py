"""What PEFT promises of a tuner beyond the battery, on each family, in PEFT's own manner."""

from __future__ import annotations

import itertools

import pytest
import torch
from peft import (
    PeftModel,
    get_peft_model_state_dict,
    prepare_model_for_kbit_training,
    set_peft_model_state_dict,
)

from rankwise.core.errors import ModelError
from tests.models.adapters import OURS
from tests.models.families import (
    FAMILIES,
    TRANSFORMERS,
    attach,
    base,
    config,
    logits,
    loss,
    train,
    trainable,
    trained,
    tuner_layers,
    without_dropout,
)

HALVES = (torch.bfloat16, torch.float16)

conforming = pytest.mark.parametrize(
    ("kind", "family"),
    [pytest.param(*c, id="-".join(c)) for c in itertools.product(OURS, FAMILIES)],
)
deep = pytest.mark.parametrize(
    ("kind", "family"),
    [pytest.param(*c, id="-".join(c)) for c in itertools.product(OURS, TRANSFORMERS)],
)
kinds = pytest.mark.parametrize("kind", OURS)


def assert_same(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=0, atol=0)


@conforming
def test_a_state_dict_goes_round(kind, family):
    model = trained(kind, family)
    state = get_peft_model_state_dict(model)
    assert not [key for key in state if "default" in key or "base_layer" in key]
    other = attach(kind, family)
    assert not torch.equal(logits(other, family), logits(model, family))
    result = set_peft_model_state_dict(other, {k: v.clone() for k, v in state.items()})
    assert not result.unexpected_keys
    assert_same(logits(other, family), logits(model, family))


@conforming
def test_a_second_adapter_is_loaded_beside_the_first(kind, family, tmp_path):
    model = trained(kind, family)
    expected = logits(model, family)
    model.save_pretrained(tmp_path)
    fresh = attach(kind, family)
    start = logits(fresh, family)
    fresh.load_adapter(str(tmp_path), adapter_name="other", low_cpu_mem_usage=True)
    assert_same(logits(fresh, family), start)
    fresh.set_adapter("other")
    assert_same(logits(fresh, family), expected)


@conforming
def test_training_goes_on_after_the_adapter_was_off_for_a_step(kind, family):
    model, twin = attach(kind, family), attach(kind, family)
    expected = train(twin, family, steps=3)
    losses = train(model, family, steps=1)
    with model.disable_adapter():
        assert_same(logits(model, family), logits(base(family), family))
        assert not trainable(model)
    assert trainable(model) == trainable(twin)
    # A new optimizer, so only the loss of the step after is the same.
    losses += train(model, family, steps=1)
    assert losses == expected[:2]


@conforming
def test_a_weighted_sum_of_adapters_is_refused(kind, family):
    model = attach(kind, family)
    model.add_adapter("other", config(kind, family))
    # Of LoRA-XS adapters that share their frozen factors there is an exact one (test_tuner.py).
    how = "svd" if kind == "lora_xs" else "linear"
    with pytest.raises(ModelError, match=r"cannot combine adapters .* export each with rankwise"):
        model.add_weighted_adapter(["default", "other"], [0.5, 0.5], "sum", how)
    assert set(model.peft_config) == {"default", "other"}


@conforming
def test_set_adapter_trains_the_active_adapter_alone(kind, family):
    model = attach(kind, family)
    first = trainable(model)
    model.add_adapter("other", config(kind, family))
    assert trainable(model) == first
    model.set_adapter("other")
    assert trainable(model) == {name.replace(".default", ".other") for name in first}
    model.set_adapter("default", inference_mode=True)
    assert not trainable(model)
    model.set_requires_grad("other")
    assert trainable(model) == {name.replace(".default", ".other") for name in first}
    model.set_requires_grad("other", requires_grad=False)
    assert not trainable(model)


@pytest.mark.parametrize("dtype", HALVES)
@conforming
def test_half_precision_trains_float32_factors(kind, family, dtype, tmp_path):
    model = attach(kind, family, dtype=dtype)
    start = logits(model, family)
    assert start.dtype == dtype
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}
    train(model, family)
    adapted = logits(model, family)
    assert adapted.dtype == dtype
    assert not torch.equal(adapted, start)
    assert adapted.isfinite().all()
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(base(family, dtype), tmp_path).eval()
    assert_same(logits(loaded, family), adapted)


@pytest.mark.parametrize("use_reentrant", [False, True])
@deep
def test_gradient_checkpointing_gives_the_same_gradients(kind, family, use_reentrant):
    model = trained(kind, family)
    loss(model, family).backward()
    expected = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    model.train()  # checkpointing acts in training mode alone
    without_dropout(model)
    model.get_base_model().activation_checkpointing_enable({"use_reentrant": use_reentrant})
    if use_reentrant:
        model.get_base_model().enable_input_require_grads()
    loss(model, family).backward()
    found = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-7)


@conforming
def test_samples_of_a_batch_take_adapters_of_their_own(kind, family):
    model = trained(kind, family)
    model.add_adapter("other", config(kind, family))
    model.set_adapter("other")
    train(model, family, steps=3)
    expected = {"other": logits(model, family), "__base__": logits(base(family), family)}
    model.set_adapter("default")
    expected["default"] = logits(model, family)
    names = ["other", "__base__", "default", "other"]
    mixed = logits(model, family, adapter_names=names)
    for row, name in enumerate(names):
        torch.testing.assert_close(mixed[row], expected[name][row], rtol=1e-5, atol=1e-6)
    assert_same(logits(model, family), expected["default"])  # no hook is left


@conforming
def test_a_mixed_batch_is_refused_where_it_cannot_be_right(kind, family):
    model = attach(kind, family)
    with pytest.raises(ModelError, match=r"adapter_names has \['nobody'\].*carries \['default'\]"):
        logits(model, family, adapter_names=["nobody"] * 4)
    with pytest.raises(ModelError, match="got 3 names for 4 samples"):
        logits(model, family, adapter_names=["default"] * 3)
    model.train()
    with pytest.raises(ModelError, match=r"for inference: call model\.eval\(\) first"):
        logits(model, family, adapter_names=["default"] * 4)
    model.eval().merge_adapter()
    with pytest.raises(ModelError, match=r"call unmerge_adapter\(\) first"):
        logits(model, family, adapter_names=["default"] * 4)


@pytest.mark.filterwarnings("ignore:Adapter name .* should not be contained in the prefix")
@pytest.mark.parametrize(
    "name", ["a b", "12", "ü", "adapter-name", "xs", "rankwise", "B", "bert2", "que"]
)
@kinds
def test_adapters_keep_their_weights_under_any_name(kind, name, tmp_path):
    model = attach(kind, "bert")
    model.add_adapter(name, config(kind, "bert"))
    model.set_adapter(name)
    train(model, "bert")
    model.save_pretrained(tmp_path, selected_adapters=[name])
    loaded = PeftModel.from_pretrained(base("bert"), tmp_path / name).eval()
    assert_same(logits(loaded, "bert"), logits(model, "bert"))


@conforming
def test_modules_to_save_train_whole_and_go_round(kind, family, tmp_path):
    head = FAMILIES[family].head
    model = trained(kind, family, modules_to_save=[head])
    assert [n for n in trainable(model) if f"{head}.modules_to_save.default" in n]
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(base(family), tmp_path).eval()
    assert_same(logits(loaded, family), logits(model, family))
    with model.disable_adapter():
        assert_same(logits(model, family), logits(base(family), family))


@conforming
def test_a_module_that_trains_whole_stays_when_the_adapter_is_unloaded(kind, family):
    head = FAMILIES[family].head
    model = trained(kind, family, modules_to_save=[head])
    expected = logits(model, family)
    merged = model.merge_and_unload()
    assert not tuner_layers(merged)
    torch.testing.assert_close(logits(merged, family), expected, rtol=1e-4, atol=1e-5)


@conforming
def test_single_layers_take_their_rank_from_the_pattern(kind, family, tmp_path):
    first, second = FAMILIES[family].targets
    model = trained(kind, family, rank_pattern={second: 1})
    ranks = {name: layer.r["default"] for name, layer in tuner_layers(model).items()}
    assert {r for name, r in ranks.items() if name.endswith(first)} == {2}
    assert {r for name, r in ranks.items() if name.endswith(second)} == {1}
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(base(family), tmp_path).eval()
    assert_same(logits(loaded, family), logits(model, family))


@conforming
def test_excluded_modules_stay_plain(kind, family):
    first, second = FAMILIES[family].targets
    model = attach(kind, family, exclude_modules=[second])
    assert all(name.endswith(first) for name in tuner_layers(model))
    with pytest.raises(ValueError, match=r"(?i)excluded"):
        attach(kind, family, exclude_modules=[first, second])


@deep
def test_chosen_blocks_alone_are_adapted(kind, family):
    # PEFT takes for the block the last number in a name; T5's is that of a part of its block.
    model = attach(kind, family, layers_to_transform=[1])
    names = list(tuner_layers(model))
    assert names
    assert not [name for name in names if ".1." not in name]
    with pytest.raises(ValueError, match="not found in the base model"):
        attach(kind, family, layers_to_transform=[9])


@conforming
def test_all_linear_layers_are_adapted_but_the_head(kind, family):
    model = attach(kind, family, target_modules="all-linear", r=1)
    plain = {n for n, m in base(family).named_modules() if type(m).__name__ in ("Linear", "Conv1D")}
    adapted = {name.removeprefix("base_model.model.") for name in tuner_layers(model)}
    assert plain - adapted == ({"lm_head"} if family in ("gpt2", "llama", "t5") else set())


@pytest.mark.parametrize("family", ["bert", "gpt2", "llama", "t5"])
@pytest.mark.filterwarnings("ignore:Model (has|with) `tie_word_embeddings=True`")
@kinds
def test_embeddings_are_refused_by_name(kind, family):
    name = FAMILIES[family].embedding
    with pytest.raises(
        ModelError, match=rf"{name} is of type Embedding, but only Linear and Conv1D"
    ):
        attach(kind, family, target_modules=[name])


@pytest.mark.parametrize("family", ["gpt2", "t5"])
@pytest.mark.filterwarnings("ignore:Model (has|with) `tie_word_embeddings=True`")
@kinds
def test_a_tied_head_is_adapted_but_not_merged(kind, family):
    model = trained(kind, family, target_modules=["lm_head"])
    adapted = logits(model, family)
    assert not torch.equal(adapted, logits(base(family), family))
    for merge in (model.merge_adapter, model.merge_and_unload):
        with pytest.raises(ModelError, match=r"lm_head shares its weight with another module"):
            merge()
    assert_same(logits(model, family), adapted)
    assert_same(logits(model.unload(), family), logits(base(family), family))


@pytest.mark.parametrize("family", ["gpt2", "llama", "t5"])
@kinds
def test_a_model_generates_with_its_adapter(kind, family):
    model = trained(kind, family, r=2)
    tokens = torch.tensor([[1, 2, 3], [3, 2, 1]])
    mask = torch.ones_like(tokens)
    options = {"max_new_tokens": 3, "do_sample": False, "attention_mask": mask}
    alone = model.generate(input_ids=tokens, **options)
    names = ["default", "__base__"]
    mixed = model.generate(input_ids=tokens, adapter_names=names, **options)
    assert torch.equal(mixed[0], alone[0])
    with model.disable_adapter():
        assert torch.equal(mixed[1], model.generate(input_ids=tokens, **options)[1])
    beams = model.generate(input_ids=tokens, adapter_names=names, num_beams=2, **options)
    assert torch.equal(beams[0], model.generate(input_ids=tokens, num_beams=2, **options)[0])


@deep
def test_preparing_for_kbit_training_leaves_the_adapter_trainable(kind, family):
    model = attach(kind, family)
    plain = prepare_model_for_kbit_training(base(family), use_gradient_checkpointing=False)
    assert not trainable(plain)
    assert trainable(model)
