"""The kinds of sketches by name, for whoever asks before torch is imported."""

from __future__ import annotations

from typing import Literal, get_args

Kind = Literal["gaussian", "orthonormal", "kaiming", "selector", "gradient"]

SKETCH_KINDS: list[str] = list(get_args(Kind))
"""All that there are; a plugin adds its own (:func:`rankwise.functional.sketches.add_sketch`)."""
