"""What the floors below refuse is an error about a setting; whatever else they raise is a fault."""

from __future__ import annotations

import pytest
import torch

from rankwise.core.errors import AdapterError, ChainError, DataError, ModelError, SettingsError
from rankwise.functional import sketch
from rankwise.training.build import settings_errors


@pytest.mark.parametrize("error", [AdapterError, DataError, ModelError, SettingsError])
def test_a_refusal_names_the_setting(error):
    with pytest.raises(SettingsError, match=r"^method: too long$"), settings_errors("method"):
        raise error("too long")


def test_a_formula_refuses_too():
    generator, message = torch.Generator(), r"^method\.schedule: r must be between 1 and 2"
    with pytest.raises(SettingsError, match=message), settings_errors("method.schedule"):
        sketch((4, 2), 3, side="right", kind="orthonormal", generator=generator)


@pytest.mark.parametrize("error", [ValueError, TypeError, KeyError, ChainError])
def test_a_fault_stays_what_it_is(error):
    fault = error("a fault of ours")
    with pytest.raises(error) as caught, settings_errors("method"):
        raise fault
    assert caught.value is fault
