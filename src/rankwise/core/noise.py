"""Warnings that libraries give one another, kept from the user's terminal."""

from __future__ import annotations

import warnings


def ignore_known_warnings() -> None:
    """Ignore in this process what libraries warn one another of, and no user can act on."""
    # PEFT 0.21 asks Transformers for a name that is deprecated there.
    warnings.filterwarnings(
        "ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning
    )
