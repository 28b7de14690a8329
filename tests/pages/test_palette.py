"""Colours that are told apart, on both backgrounds."""

from __future__ import annotations

import itertools
import math

import pytest

from rankwise.pages import palette


def channels(colour):
    """Red, green and blue of ``#RRGGBB``, from 0 to 255."""
    return [int(colour[i : i + 2], 16) for i in (1, 3, 5)]


def contrast(one, two):
    """The contrast ratio of WCAG 2."""

    def luminance(colour):
        linear = [
            c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
            for c in (channel / 255 for channel in channels(colour))
        ]
        return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    darker, lighter = sorted((luminance(one), luminance(two)))
    return (lighter + 0.05) / (darker + 0.05)


def distance(one, two):
    """How far two colours are apart, as Riemersma's "redmean" weighs their channels."""
    pairs = list(zip(channels(one), channels(two), strict=True))
    red, green, blue = ((a - b) ** 2 for a, b in pairs)
    mean = sum(pairs[0]) / 2
    return math.sqrt((2 + mean / 256) * red + 4 * green + (2 + (255 - mean) / 256) * blue)


def test_colours_come_again_past_the_tenth_method():
    given = palette.colours_of([f"method-{i}" for i in range(12)], in_ink="method-0")
    assert given["method-0"] == palette.INK
    assert given["method-11"] == given["method-1"] == palette.PALETTE[0]


@pytest.mark.parametrize("colour", [palette.INK, *palette.PALETTE])
def test_colours_stand_out_from_both_backgrounds(colour):
    assert contrast(colour, palette.PAPER) >= 3
    assert contrast(palette.DARK[colour], palette.DARK[palette.PAPER]) >= 4.5


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_each_pair_of_colours_stays_apart(scheme):
    light = [palette.INK, *palette.PALETTE]
    shown = light if scheme == "light" else [palette.DARK[colour] for colour in light]
    # Black and white are 765 apart.
    assert min(distance(*pair) for pair in itertools.combinations(shown, 2)) > 60
