"""Loss curves for the terminal: a line a method, all on one scale, means over seeds.

And what they show at the start, in words that claim no more than the means.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from rich import box
from rich.table import Table
from rich.text import Text

from rankwise.comparison.records import Summary, SummaryRow
from rankwise.comparison.report.comparison import Comparison
from rankwise.core.outside_text import one_line
from rankwise.training.records import FailedRun, RunRecord

_BARS = "▁▂▃▄▅▆▇█"
WIDTH = 40


@dataclass(frozen=True)
class LossCurve:
    """Mean validation losses of a method at its chosen learning rate, the untrained model first."""

    row: SummaryRow
    losses: tuple[float, ...]


def loss_curves(summary: Summary, records: Sequence[RunRecord | FailedRun]) -> list[LossCurve]:
    """Return the curve of each method that was scored, over the epochs that its runs share."""
    comparison, curves = Comparison(summary, records), []
    for row in summary.methods:
        if runs := comparison.chosen_runs(row):
            points = zip(*(run.curve for run in runs), strict=False)
            losses = tuple(fmean(point.validation_loss for point in each) for each in points)
            curves.append(LossCurve(row, losses))
    return curves


def curves_table(curves: Sequence[LossCurve]) -> Table:
    """Return one line a method: the loss as bars, at the start and at the end."""
    table = Table(
        title="validation loss over epochs, means over seeds",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    for heading in ("method", "start", "over epochs", "end"):
        table.add_column(heading, justify="right" if heading in ("start", "end") else "left")
    highest = max((max(curve.losses) for curve in curves), default=1.0)
    for curve in curves:
        first, last = curve.losses[0], curve.losses[-1]
        bars = as_bars(curve.losses, highest=highest)
        name = Text(one_line(curve.row.label))
        table.add_row(name, f"{first:.3f}", bars, f"{last:.3f}")
    return table


def as_bars(losses: Sequence[float], *, highest: float, width: int = WIDTH) -> str:
    """Return losses as characters of rising height, at most ``width`` of them.

    >>> as_bars([1.0, 0.5, 0.0], highest=1.0)
    '█▅▁'
    """
    count = min(width, len(losses))
    picked = [losses[round(i * (len(losses) - 1) / max(1, count - 1))] for i in range(count)]
    top = len(_BARS) - 1
    return "".join(_BARS[min(top, round(loss / highest * top + 1e-9))] for loss in picked)


def said_of_starts(curves: Sequence[LossCurve], *, baseline: str) -> list[str]:
    """Return what each method's first epochs were beside the baseline's, in one sentence each."""
    beside = next((curve for curve in curves if curve.row.name == baseline), None)
    if beside is None:
        return []
    sentences = []
    for curve in curves:
        if curve is beside:
            continue
        start, first = (_compared(curve.losses[i], beside.losses[i]) for i in (0, 1))
        reached = _epochs_to(curve.losses, beside.losses[-1])
        epochs = len(beside.losses) - 1
        end = (
            f"it reached {baseline}'s last loss after {reached} of {epochs} epochs"
            if reached is not None
            else f"it did not reach {baseline}'s last loss"
        )
        sentences.append(
            f"{curve.row.label}: loss {start} at the start and {first} after one epoch, against "
            f"{baseline}; {end}"
        )
    return sentences


def _compared(loss: float, other: float) -> str:
    share = loss / other - 1
    if abs(share) < 0.005:
        return "equal"
    return f"{abs(share):.0%} {'higher' if share > 0 else 'lower'}"


def _epochs_to(losses: Sequence[float], goal: float) -> int | None:
    return next((epoch for epoch, loss in enumerate(losses) if loss <= goal), None)
