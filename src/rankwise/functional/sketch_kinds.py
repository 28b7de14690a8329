"""The words of chains and their sketches, for whoever asks before torch is imported."""

from __future__ import annotations

from typing import Literal, get_args

Kind = Literal["gaussian", "orthonormal", "kaiming", "selector", "gradient"]

ChainSide = Literal["left", "right", "both", "both-left"]
BOTH: tuple[ChainSide, ...] = ("both", "both-left")
"""Where both factors train, and the sketch is where one of them begins."""

MomentsAtFold = Literal["reset", "kept", "carried"]
"""What becomes of an optimizer's moments when a block of a chain is over."""

SKETCH_KINDS: list[str] = list(get_args(Kind))
"""All that there are; a plugin adds its own (:func:`rankwise.functional.sketches.add_sketch`)."""
