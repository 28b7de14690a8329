"""Colours that each eye tells apart, on both backgrounds."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from rankwise.comparison.report import palette
from tests.comparison import made_records as made

# Machado, Oliveira, Fernandes (2009), severity 1.0, on linear RGB.
VISIONS = {
    "normal": np.eye(3),
    "deuteranope": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "protanope": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
}


def linear(colour):
    """The linear RGB values of ``#RRGGBB``."""
    channels = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def oklab(rgb):
    """OKLab coordinates of linear RGB (Ottosson 2020)."""
    to_lms = [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
    to_lab = [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
    return np.array(to_lab) @ np.cbrt(np.array(to_lms) @ np.clip(rgb, 0, 1))


def contrast(one, two):
    """The contrast ratio of WCAG 2."""
    weights = [0.2126, 0.7152, 0.0722]
    darker, lighter = sorted((linear(one) @ weights, linear(two) @ weights))
    return (lighter + 0.05) / (darker + 0.05)


def test_colours_come_again_past_the_tenth_method():
    rows = [made.row(f"method-{i}") for i in range(12)]
    given = palette.colours(made.summary(rows, baseline="method-0"))
    assert given["method-0"] == palette.INK
    assert given["method-11"] == given["method-1"] == palette.PALETTE[0]


@pytest.mark.parametrize("colour", [palette.INK, *palette.PALETTE])
def test_colours_stand_out_from_both_backgrounds(colour):
    assert contrast(colour, palette.PAPER) >= 3
    assert contrast(palette.DARK[colour], palette.DARK[palette.PAPER]) >= 4.5


@pytest.mark.parametrize("vision", VISIONS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_each_pair_of_colours_stays_apart(vision, scheme):
    light = [palette.INK, *palette.PALETTE]
    shown = light if scheme == "light" else [palette.DARK[colour] for colour in light]
    seen = [oklab(VISIONS[vision] @ linear(colour)) for colour in shown]
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)) > 0.06
