"""What an init, a training step, a fold and a checkpoint cost: formulas of numbers, nothing more.

With the adapted layers' shapes (out, in), rank r, T tokens a process and step, and N processes that
shard the weights:

    F = Σ (out + in),   P = Σ out · in,   W = all weights

docs/scaling.md explains the formulas and checks them against measurements at three sizes. Numbers
are counted in single multiplications and additions (one product of a matrix (m, k) with one (k, n)
is 2 m k n) and in bytes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

Kind = Literal["lora", "lora_xs", "delora", "frozen_a", "frozen_b"]
Shapes = Sequence[tuple[int, int]]

FLOAT32 = 4
ADAM_STATES = 2  # moments a number that trains, in float32
OVERSAMPLING = 10  # of functional/svd.py
BASIS_WIDTHS = 2.5  # columns of its basis until convergence, in r + oversampling, as measured
LAYER_COPIES = 3  # of one gradient while it is decomposed: itself, its sign, and room to work


class Numbers(NamedTuple):
    """How many numbers of an adapter train, and how many are fixed and stored beside them."""

    trained: int
    fixed: int


@dataclass(frozen=True)
class Decoder:
    """A decoder as Llama: attention of ``hidden`` with ``key_value`` wide keys, and a gated MLP."""

    hidden: int
    intermediate: int
    blocks: int
    vocabulary: int
    key_value: int

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """The linear layers of all blocks as (out, in)."""
        h, m, kv = self.hidden, self.intermediate, self.key_value
        block = [(h, h), (kv, h), (kv, h), (h, h), (m, h), (m, h), (h, m)]
        return block * self.blocks

    @property
    def weights(self) -> int:
        """All weights, embeddings and head (not tied) included, without norms."""
        return products(self.shapes) + 2 * self.vocabulary * self.hidden

    @property
    def kept_numbers(self) -> int:
        """Numbers a token that the frozen model keeps for its backward pass.

        Per block the inputs of both norms, the queries, the attention's output, keys and values
        (as wide as queries where they are repeated for the heads), and three vectors of the MLP;
        and the logits once.
        """
        h, m = self.hidden, self.intermediate
        return self.blocks * (6 * h + 3 * m) + self.vocabulary

    @property
    def input_numbers(self) -> int:
        """Numbers a token that are kept besides where the inputs of all layers are needed."""
        return self.blocks * (3 * self.hidden + self.intermediate)


def products(shapes: Shapes) -> int:
    """Return P = Σ out · in."""
    return sum(out * in_ for out, in_ in shapes)


def sides(shapes: Shapes) -> int:
    """Return F = Σ (out + in)."""
    return sum(out + in_ for out, in_ in shapes)


def adapter_numbers(kind: Kind, shapes: Shapes, r: int) -> Numbers:
    """Count the numbers of an adapter.

    Example:
        >>> adapter_numbers("lora_xs", [(8, 6)], 2)
        Numbers(trained=4, fixed=28)
    """
    both, layers = r * sides(shapes), len(shapes)
    inputs = sum(in_ for _, in_ in shapes)
    match kind:
        case "lora":
            return Numbers(both, 0)
        case "lora_xs":
            return Numbers(layers * r * r, both)
        case "delora":
            return Numbers(both + layers, both + inputs)
        case "frozen_a":
            return Numbers(both - r * inputs, r * inputs)
        case "frozen_b":
            return Numbers(r * inputs, both - r * inputs)
    raise ValueError(f"kind must be a known adapter, got {kind!r}")


def frozen_pass_operations(weights: int, tokens: int) -> int:
    """Count forward and backward of the frozen model, attention aside: 4 W T."""
    return 4 * weights * tokens


def adapter_step_operations(kind: Kind, shapes: Shapes, r: int, tokens: int) -> int:
    """Count what an adapter adds to a step: products of short vectors, both ways.

    Forward A x and B (A x), backward Bᵀ dy and Aᵀ (Bᵀ dy), each 2 r T times one side of the layer;
    a factor that trains takes one more product with its side. DeLoRA's factors have rank 2r, the
    gradient of its B only r.
    """
    F, outs = sides(shapes), sum(out for out, _ in shapes)
    short = 2 * r * tokens
    both_ways = 2 * short * F
    match kind:
        case "lora":
            return both_ways + short * F
        case "lora_xs":
            return both_ways + 3 * len(shapes) * 2 * r * r * tokens
        case "delora":
            return 2 * both_ways + short * outs + 2 * short * (F - outs)
        case "frozen_a":
            return both_ways + short * outs
        case "frozen_b":
            return both_ways + short * (F - outs)
    raise ValueError(f"kind must be a known adapter, got {kind!r}")


def kept_bytes(kind: Kind, network: Decoder, r: int, tokens: int, *, size: int = FLOAT32) -> int:
    """Return what a step keeps for its backward pass, ``size`` bytes a number.

    Where A is frozen only A x is kept beside what the frozen model keeps, and the inputs of the
    layers otherwise.
    """
    short = 0 if kind == "frozen_b" else r * len(network.shapes) * FLOAT32
    inputs = 0 if kind in ("lora_xs", "frozen_a") else network.input_numbers * size
    return tokens * (network.kept_numbers * size + short + inputs)


def init_operations(
    shapes: Shapes, weights: int, r: int, tokens: int, *, processes: int = 1, passes: int = 1
) -> int:
    """Count the ``update`` init over T tokens a process: passes, P gradients, and decompositions.

    4 W T · passes + 2 P T + Σ 4 out in k / N with k columns in the basis, and their
    orthogonalisation.
    """
    k = int(BASIS_WIDTHS * (r + OVERSAMPLING))
    decompositions = 4 * products(shapes) * k + 8 * sides(shapes) * k * k
    gradients = 2 * products(shapes) * tokens
    pass_through = passes * frozen_pass_operations(weights, tokens)
    return pass_through + gradients + decompositions // processes


def init_bytes(
    network: Decoder,
    r: int,
    tokens: int,
    *,
    batches: int = 1,
    processes: int = 1,
    budget: int | None = None,
    size: int = FLOAT32,
) -> int:
    """Return what the ``update`` init takes at most beyond a frozen pass over T tokens.

    All that one block keeps, which makes it again in the backward pass; a copy of the adapter for
    the way back; and gradients in float32: of one layer at a time in one process with one batch,
    else of as many as ``budget`` lets in. What blocks keep less than in a frozen pass is not taken
    off.
    """
    shapes = network.shapes
    largest = LAYER_COPIES * FLOAT32 * max(out * in_ for out, in_ in shapes)
    gradients = 0
    if batches > 1 or processes > 1:
        gradients = FLOAT32 * products(shapes)
        gradients = gradients if budget is None else min(gradients, budget)
    copies = FLOAT32 * r * sides(shapes)
    one_block = (network.kept_numbers - network.vocabulary + network.input_numbers) / network.blocks
    return int(tokens * one_block) * size + largest + gradients + copies


def init_passes(shapes: Shapes, *, batches: int, processes: int, budget: int | None) -> int:
    """Return how often the batches are gone through."""
    if budget is None or (batches == 1 and processes == 1):
        return 1
    return math.ceil(FLOAT32 * products(shapes) / budget)


def init_traffic_bytes(shapes: Shapes, r: int) -> int:
    """Return the bytes that a process sends in the ``update`` init: G once, factors once."""
    return FLOAT32 * (products(shapes) + r * sides(shapes) + len(shapes) * r * r)


def state_bytes(kind: Kind, shapes: Shapes, r: int) -> int:
    """Return the adapter in float32 with the gradients and Adam's moments of what trains."""
    trained, fixed = adapter_numbers(kind, shapes, r)
    return FLOAT32 * (trained * (2 + ADAM_STATES) + fixed)


def fold_operations(shapes: Shapes, r: int, blocks: int) -> int:
    """Count the fold that ends block t = ``blocks``: W₀ + Σ B A is summed anew, 2 P r t."""
    return 2 * products(shapes) * r * blocks


def fold_bytes(shapes: Shapes, *, size: int) -> tuple[int, int]:
    """Return what a chain takes on the accelerator for a moment, and in main memory for good.

    On the accelerator the float32 sum of one layer, twice; in main memory W₀ of the adapted layers.
    """
    largest = max(out * in_ for out, in_ in shapes)
    return 2 * FLOAT32 * largest, size * products(shapes)


def checkpoint_bytes(kind: Kind, shapes: Shapes, r: int, blocks: int = 1) -> int:
    """Return the size of an adapter's file; of a chain, the ledger of ``blocks`` blocks.

    Frozen sketches of a chain are seeds, so a ledger holds the factor that trains of each block.
    """
    trained, fixed = adapter_numbers(kind, shapes, r)
    if kind in ("frozen_a", "frozen_b"):
        return FLOAT32 * (trained * blocks)
    return FLOAT32 * (trained + fixed) * blocks
