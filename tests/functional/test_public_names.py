"""What ``rankwise.functional`` offers, and that every example in its documentation runs."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

from rankwise import functional

FILES = [module.name for module in pkgutil.iter_modules(functional.__path__)]


def test_the_public_names_are_these_eleven():
    assert functional.__all__ == [
        "boundary_layer_weights",
        "boundary_loss",
        "compress",
        "corrected_core_gradient",
        "delora_delta",
        "equivalent_gradient",
        "information_loss",
        "sign_agreement",
        "sketch",
        "tangent_projection",
        "update_factors",
    ]


@pytest.mark.parametrize("file", FILES)
def test_the_examples_give_what_they_show(file):
    results = doctest.testmod(importlib.import_module(f"rankwise.functional.{file}"))
    assert results.failed == 0


@pytest.mark.parametrize("name", functional.__all__)
def test_every_public_function_has_an_example(name):
    assert ">>>" in (getattr(functional, name).__doc__ or "")
