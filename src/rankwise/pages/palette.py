"""The colours of a page: one for each method, the same in every chart.

The ten were chosen so that each pair stays apart for normal, deuteranope and protanope eyes
(Machado et al. 2009) on both backgrounds, at a contrast of 3:1 or more. Figures hold the colours
for a light background; ``DARK`` maps each to its twin.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import cycle

PAPER, INK, MUTED, GRID = "#FBFAF8", "#1B1E23", "#5A616C", "#E4E1DB"
PALETTE = (
    "#5A60E6",
    "#C12F89",
    "#006249",
    "#853900",
    "#A78E11",
    "#1442BE",
    "#148A53",
    "#830B8E",
    "#9F6700",
    "#E24484",
)
DARK = {
    PAPER: "#14161A",
    INK: "#E8E6E1",
    MUTED: "#A3A9B3",
    GRID: "#2C3037",
    "#5A60E6": "#ACB8FE",
    "#C12F89": "#FF97CE",
    "#006249": "#23B189",
    "#853900": "#E1773B",
    "#A78E11": "#F5D754",
    "#1442BE": "#6895F4",
    "#148A53": "#5EDA94",
    "#830B8E": "#C575CC",
    "#9F6700": "#F8AC3D",
    "#E24484": "#FA7BA7",
}


def colours_of(names: Iterable[str], *, in_ink: str | None = None) -> dict[str, str]:
    """Give each name its colour, in order; past the tenth they come again.

    ``in_ink`` comes first and has the colour of the text.
    """
    others = dict.fromkeys(name for name in names if name != in_ink)
    ink = {} if in_ink is None else {in_ink: INK}
    return ink | dict(zip(others, cycle(PALETTE)))
