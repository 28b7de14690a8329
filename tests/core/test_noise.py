"""One known warning is kept from the terminal, and no other."""

from __future__ import annotations

import warnings

import pytest

from rankwise.core.noise import ignore_known_warnings


def test_the_known_warning_is_ignored_and_others_are_not():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ignore_known_warnings()
        warnings.warn(
            "`is_gradient_checkpointing` is deprecated and will go", FutureWarning, stacklevel=2
        )
        with pytest.raises(FutureWarning):
            warnings.warn("`another` is deprecated", FutureWarning, stacklevel=2)
