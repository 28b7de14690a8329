"""The colours of the report: one for each method, the same in every chart.

The ten were chosen so that each pair stays apart for normal, deuteranope and protanope eyes
(Machado et al. 2009) on both backgrounds, at a contrast of 3:1 or more. Figures hold the colours
for a light background; ``DARK`` maps each to its twin.
"""

from __future__ import annotations

from itertools import cycle

from rankwise.training.records import Summary

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


def colours(summary: Summary) -> dict[str, str]:
    """Give every method name its colour, in order of appearance; past the tenth they come again."""
    baseline = summary.protocol.baseline
    names = dict.fromkeys(row.name for row in summary.methods if row.name != baseline)
    return {baseline: INK, **dict(zip(names, cycle(PALETTE)))}
