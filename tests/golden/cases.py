"""Read the golden numbers beside this file; README.md says what each file holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

Case = dict[str, Any]


def golden_cases(file: str) -> dict[str, Case]:
    """Return the cases of a file by their names: parameters and, over them, tensors by name."""
    with safe_open(Path(__file__).with_name(f"{file}.safetensors"), framework="pt") as stored:
        cases: dict[str, Case] = json.loads(stored.metadata()["parameters"])
        for key in stored.keys():  # noqa: SIM118 (not a dictionary)
            case, _, name = key.partition(".")
            cases[case][name] = stored.get_tensor(key)
    return cases


def on_golden_cases(file: str, **others: Case) -> pytest.MarkDecorator:
    """Run a test on each case of a file and on the ``others``, made elsewhere, as ``case``."""
    cases = {**others, **golden_cases(file)}
    return pytest.mark.parametrize("case", cases.values(), ids=cases.keys())


def golden(file: str, **by_hand: Any) -> pytest.MarkDecorator:
    """Run a test on each case of a golden file and on one by hand, which has the same names."""
    hand = {
        name: torch.tensor(value, dtype=torch.float64) if isinstance(value, list | float) else value
        for name, value in by_hand.items()
    }
    return on_golden_cases(file, **{"by-hand": hand})


def close(actual: Tensor, expected: Tensor, *, rtol: float = 1e-10, atol: float = 1e-12) -> None:
    torch.testing.assert_close(actual, expected.to(actual.dtype), rtol=rtol, atol=atol)


def trainable(tensor: Tensor) -> Tensor:
    return tensor.clone().requires_grad_()
