"""Families from their configurations: each works with every kind of adapter, or is refused by name.

What is refused stands in ``REFUSED`` with words of the refusal.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import warnings
from collections.abc import Iterable

import pytest
import torch
from peft import PeftModel, get_peft_model

from rankwise.core.errors import ModelError, RankwiseError
from rankwise.export.ledger import export_ledger
from rankwise.export.lora import export_lora
from rankwise.methods.adapters.bridge import adapted_layers, delta
from rankwise.methods.chain.chain import Chain
from rankwise.methods.inits.boundary import BoundaryMatching
from rankwise.methods.inits.initialize import initialize
from rankwise.methods.inits.update import UpdateApproximation
from tests.models.adapters import KINDS, OURS
from tests.models.more_families import ARCHITECTURES, base, batch, logits, train

EXPERTS = tuple(name for name, each in ARCHITECTURES.items() if each.has_experts)
STACKS = ("experts.gate_up_proj", "experts.down_proj")
# PEFT's "all-linear" takes the experts of these along.
WRAPPED = ("mixtral", "qwen3_moe", "deepseek_v3", "qwen3_next")

# These call functions for their activations, not modules.
FUNCTIONAL = ("gpt_oss", "mamba2", "lfm2", "bloom")
# PEFT names experts by a pattern of ranks that a model without such a layer does not know.
# And all-linear says what it leaves out.
pytestmark = [
    pytest.mark.runs,
    pytest.mark.filterwarnings("ignore:The following (rank|alpha)_pattern keys did not match"),
    pytest.mark.filterwarnings("ignore:'all-linear' (adapts|leaves out)"),
]

Case = tuple[str, str, str]  # check, kind, family
REFUSED: dict[Case, str] = {
    **{("boundary", "lora", each): "no activation module" for each in FUNCTIONAL},
    **{("boundary", "lora", each): r"experts\.\S+ has positions of shape" for each in WRAPPED},
    ("update", "lora", "qwen3_next"): r"the smaller side of \S+shared_expert_gate",
    ("chain", "lora", "qwen3_next"): r"the output side of \S+shared_expert_gate",
    ("update", "lora", "gemma3n_text"): "per_layer_projection has no gradient",
    ("update", "lora_xs", "gemma3n_text"): "per_layer_projection has no gradient",
}


def families(check: str, kinds: Iterable[str]) -> pytest.MarkDecorator:
    """Run a check on each family under each of the kinds, with what it has to say."""
    found = []
    for kind, family in itertools.product(kinds, ARCHITECTURES):
        refusal = REFUSED.get((check, kind, family))
        found.append(pytest.param(kind, family, refusal, id=f"{kind}-{family}"))
    return pytest.mark.parametrize(("kind", "family", "refusal"), found)


def works_or(refusal: str | None) -> contextlib.AbstractContextManager:
    return pytest.raises(RankwiseError, match=refusal) if refusal else contextlib.nullcontext()


def attach(kind: str, family: str, targets: str | list[str] | None = None) -> PeftModel:
    """Adapt what is linear, and the experts."""
    torch.manual_seed(2)
    has_stacks = family in EXPERTS and not targets
    if kind == "lora" and family in WRAPPED:
        has_stacks = False  # PEFT takes them along
    targets = targets or ARCHITECTURES[family].targets
    targets = targets if isinstance(targets, str) else list(targets)
    config = KINDS[kind](
        r=2, target_modules=targets, target_parameters=list(STACKS) if has_stacks else None
    )
    return get_peft_model(base(family), config).eval()


def trained(kind: str, family: str) -> PeftModel:
    model = attach(kind, family)
    train(model, family)
    return model


def changes(model: PeftModel) -> list[torch.Tensor]:
    return [delta(layer, "default") for layer in adapted_layers(model).values()]


@families("train", KINDS)
def test_it_trains_and_comes_back_from_its_directory(kind, family, refusal, tmp_path):
    with works_or(refusal):
        model = attach(kind, family)
        start = logits(model, family)
        frozen = {n: p.clone() for n, p in model.named_parameters() if not p.requires_grad}
        train(model, family)
        adapted = logits(model, family)
        assert not torch.equal(adapted, start)
        assert all(torch.equal(p, frozen.get(n, p)) for n, p in model.named_parameters())
        model.save_pretrained(tmp_path)
        loaded = PeftModel.from_pretrained(base(family), tmp_path)
        assert torch.equal(logits(loaded, family), adapted)
        merged = copy.deepcopy(model).merge_and_unload(safe_merge=True)
        torch.testing.assert_close(logits(merged, family), adapted, rtol=1e-4, atol=1e-5)


@families("export", KINDS)
def test_it_leaves_as_a_plain_lora(kind, family, refusal, tmp_path):
    with works_or(refusal):
        model = trained(kind, family)
        export_lora(model, tmp_path / "out")
        loaded = PeftModel.from_pretrained(base(family), tmp_path / "out")
        adapted = logits(model, family)
        torch.testing.assert_close(logits(loaded, family), adapted, rtol=1e-4, atol=1e-5)


@families("update", ("lora_xs", "lora"))
def test_its_update_init_moves_every_layer(kind, family, refusal):
    with works_or(refusal):
        model = attach(kind, family)
        init = UpdateApproximation(lr=1e-3, skip_unused=family in EXPERTS)
        report = initialize(model, init, [batch(family)])
        assert all(change.isfinite().all() and change.any() for change in changes(model))
        idle = [name for name in report.outcome.unused if "experts[" in name or "layer[" in name]
        assert idle == list(report.outcome.unused)


@families("boundary", ("lora",))
def test_its_boundary_init_lowers_its_loss(kind, family, refusal):
    with works_or(refusal):
        model = attach(kind, family)
        report = initialize(model, BoundaryMatching(steps=3, lr=1e-3), [batch(family)])
        first, *_, last = report.outcome.losses
        assert last < first


@families("chain", ("lora",))
def test_a_chain_folds_leaves_by_its_ledger_and_gives_the_base_back(
    kind, family, refusal, tmp_path
):
    with works_or(refusal):
        model = attach(kind, family)
        chain = Chain(model, side="right")
        for _ in range(2):
            train(model, family)
            chain.fold()
        adapted = logits(model, family)
        model.save_pretrained(tmp_path / "ledger")
        export_ledger(tmp_path / "ledger", tmp_path / "out")
        loaded = PeftModel.from_pretrained(base(family), tmp_path / "out")
        torch.testing.assert_close(logits(loaded, family), adapted, rtol=1e-4, atol=1e-5)
        chain.finish()
        torch.testing.assert_close(logits(model, family), adapted, rtol=1e-4, atol=1e-5)
        with model.disable_adapter():
            assert torch.equal(logits(model, family), logits(base(family), family))


@pytest.mark.parametrize("family", EXPERTS)
@pytest.mark.parametrize("kind", OURS)
def test_experts_are_adapted_or_the_user_is_told(kind, family):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            adapted = list(adapted_layers(attach(kind, family, "all-linear")))
            told = [str(warning.message) for warning in caught]
        except ModelError as error:
            adapted, told = [], [str(error)]
    assert any(name.endswith("experts") for name in adapted) or "experts" in " ".join(told)


@pytest.mark.parametrize("target", ["out_proj", "conv1d"])
@pytest.mark.parametrize("kind", OURS)
def test_layers_that_mamba_reads_itself_are_refused(kind, target):
    with pytest.raises(ModelError, match=rf"{target} cannot be adapted, as the kernels of Mamba"):
        attach(kind, "mamba2", [target])
