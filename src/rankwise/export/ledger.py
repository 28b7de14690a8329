"""An unfinished chain as a plain LoRA, from its ledger alone: neither model nor data is needed.

    ΔW = s Σ Bᵢ Aᵢ        over all blocks, the open one included

Sketches that the ledger leaves out are drawn again from its seed (``methods/chain/sketches.py``).
The layers are named as in the chain's own config, by which PEFT has found them once; ledgers of 0.1
do not hold it, and there they are named in full.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from torch import Tensor

from rankwise.core.autocast import without_autocast
from rankwise.core.directories import draft_of
from rankwise.core.errors import AdapterError, SettingsError
from rankwise.core.seeds import derive_seed
from rankwise.export.lora import PREFIX, write_lora
from rankwise.export.serving import serving_notes
from rankwise.functional.compression import compress_each, without_excess_rank
from rankwise.functional.sketches import sketch
from rankwise.methods.adapters.directory import (
    WEIGHTS,
    plain_file,
    read_config,
    read_names,
    read_tensors,
)
from rankwise.methods.adapters.stacks import unpacked
from rankwise.methods.chain.ledger import ChainIdentity, Ledger, key_of, read_ledger

TOLERANCE = 1e-5
_OF_A_CHAIN = (".lora_A.", ".lora_B.", ".rankwise_xs_", ".rankwise_decoupled_")


@dataclass(frozen=True)
class LedgerExport:
    """What :func:`export_ledger` wrote.

    Attributes:
        directory: Where it lies.
        rank: The rank of every layer.
        blocks: Blocks of the chain, the open one included.
        errors: Per layer, the relative Frobenius error of the compression; 0 for the full rank.
        notes: What servers ask of it, a sentence each.
    """

    directory: Path
    rank: int
    blocks: int
    errors: dict[str, float]
    notes: tuple[str, ...] = ()


@without_autocast()
def export_ledger(source: Path, directory: Path, *, rank: int | None = None) -> LedgerExport:
    """Write the chain whose ledger lies in ``source`` as a plain LoRA of ``rank``.

    By default that is Σr, or the smaller side of a layer where Σr is more.

    Raises:
        AdapterError: The ledger is damaged, or the adapter has parts beside the chain.
        SettingsError: ``rank`` is less than 1, or ``directory`` is not empty.
    """
    if rank is not None and rank < 1:
        raise SettingsError(f"--rank must be at least 1, got {rank}")
    with draft_of(directory) as draft:
        _check_nothing_else(source)
        ledger = read_ledger(source)
        base = read_config(source).get("base_model_name_or_path")
        factors, errors = {}, {}
        for name in ledger.identity.layers:
            factors[name], errors[name] = _joined(ledger, name, rank)
        width = max(A.shape[-2] for _, A in factors.values())
        write_lora(draft, _config(ledger, width, base=base), factors, {})
        _check_reread(draft, factors)
        notes = serving_notes(draft)
    return LedgerExport(directory, width, ledger.folds + 1, errors, notes)


def _check_nothing_else(source: Path) -> None:
    if not (source / WEIGHTS).exists():
        return
    names = read_names(plain_file(source, WEIGHTS))
    if others := [key for key in names if not any(part in key for part in _OF_A_CHAIN)]:
        raise AdapterError(
            f"{source} holds {others[0]} beside the chain, which a ledger's export would lose: "
            "resume the run, let it finish, and export that"
        )


def _joined(ledger: Ledger, name: str, rank: int | None) -> tuple[tuple[Tensor, Tensor], float]:
    """Return B and A of all blocks of a layer, the scaling in B, and what compression loses."""
    scaling = ledger.identity.layers[name][3]
    blocks = [_block(ledger, name, block) for block in range(ledger.folds + 1)]
    B = torch.cat([B.float() * scaling for B, _ in blocks], dim=-1)
    A = torch.cat([A.float() for _, A in blocks], dim=-2)
    if not (torch.isfinite(B).all() and torch.isfinite(A).all()):
        raise AdapterError(f"the change of {name} is not finite: use an earlier checkpoint")
    B, A = without_excess_rank(B, A)
    if rank is None or rank >= A.shape[-2]:
        return (B, A), 0.0
    B, A, error = compress_each(B, A, rank)
    return (B, A), error


def _block(ledger: Ledger, name: str, block: int) -> tuple[Tensor, Tensor]:
    pair = {factor: ledger.tensors.get(key_of(name, block, factor)) for factor in ("B", "A")}
    missing = [factor for factor, tensor in pair.items() if tensor is None]
    if missing:
        drawn = "B" if ledger.identity.side == "left" else "A"
        other = pair["A" if drawn == "B" else "B"]
        if missing != [drawn] or other is None:
            raise AdapterError(f"the ledger lacks {missing} of {name} in block {block}")
        pair[drawn] = _drawn(ledger.identity, name, block).to(other.dtype)
    B, A = pair["B"], pair["A"]
    assert B is not None
    assert A is not None
    out_features, in_features, r, _, *stack = ledger.identity.layers[name]
    if B.shape != (*stack, out_features, r) or A.shape != (*stack, r, in_features):
        raise AdapterError(
            f"{name} has B {tuple(B.shape)} and A {tuple(A.shape)} in block {block}, which do not "
            f"fit [experts, out, in, r] = {[*stack, out_features, in_features, r]}: the ledger is "
            "damaged"
        )
    return B, A


def _drawn(identity: ChainIdentity, name: str, block: int) -> Tensor:
    stack = identity.layers[name][4:]
    try:
        if not stack:
            return _drawn_matrix(identity, name, block)
        experts = range(int(stack[0]))
        return torch.stack([_drawn_matrix(identity, name, block, each) for each in experts])
    except ValueError as error:
        raise AdapterError(f"the ledger's sketch of {name} cannot be drawn: {error}") from None


def _drawn_matrix(identity: ChainIdentity, name: str, *place: int) -> Tensor:
    out_features, in_features, r, *_ = identity.layers[name]
    return sketch(
        (int(out_features), int(in_features)),
        int(r),
        side="left" if identity.side == "left" else "right",
        kind=identity.sketch,  # type: ignore[arg-type]
        generator=torch.Generator().manual_seed(derive_seed(identity.seed, name, *place)),
    )


def _config(ledger: Ledger, width: int, *, base: str | None) -> LoraConfig:
    fields: dict[str, Any] = ledger.config
    layers = ledger.identity.layers
    if not fields:
        if stacks := [name for name, layer in layers.items() if len(layer) > 4]:
            raise AdapterError(
                f"{stacks[0]} is a stack of experts, which the ledgers of 0.1 do not name: make "
                "the chain anew on the model, load() this directory into it, finish() it and "
                "export the adapter"
            )
        fields = {"target_modules": [name.removeprefix(PREFIX) for name in layers]}
    try:
        return LoraConfig(
            r=width,
            lora_alpha=width,
            base_model_name_or_path=base,
            inference_mode=True,
            **fields,
        )
    except (TypeError, ValueError) as error:
        raise AdapterError(f"the ledger's config is damaged: {error}") from None


def _check_reread(draft: Path, factors: dict[str, tuple[Tensor, Tensor]]) -> None:
    """Read the directory back and compare each change."""
    reread = read_tensors(draft / WEIGHTS)
    for name, (B, A) in factors.items():
        expected = B @ A
        experts = len(B) if B.ndim == 3 else None
        left, right = (
            unpacked(factor, reread[f"{name}.lora_{factor}.weight"], experts) for factor in "BA"
        )
        change = left @ right
        if not (change - expected).norm() <= TOLERANCE * expected.norm():
            raise AdapterError(
                f"the exported change of {name} differs when read back: nothing is exported"
            )
